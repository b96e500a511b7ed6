"""Numbers from tables: pruning measures, masks, correlations and what they rest on. Without torch."""
