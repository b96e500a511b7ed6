"""The columns of one snapshot: derivatives, their standard errors, and cheap columns."""
