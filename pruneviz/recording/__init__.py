"""The recorder: a schedule, snapshots, and a log."""
