"""Pruning measures, masks, correlations and convergence, computed from tables; free of torch."""
