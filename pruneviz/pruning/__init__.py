"""Pruning: entries held at zero, groups of coupled filters, ranking in rounds, and removal."""
