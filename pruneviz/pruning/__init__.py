"""Pruned entries that stay pruned, coupled groups, pruning rounds, and real removal."""
