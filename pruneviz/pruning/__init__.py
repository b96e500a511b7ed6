"""Pruning: groups of coupled filters, ranking in rounds, masking, and removal."""
