"""Pruning of networks: masks in rounds by any measure, and the real removal of what was masked."""

from pruneviz.pruning.pruner import Pruner, needed_columns, ranking_temperatures
from pruneviz.pruning.removal import Removed, remove

__all__ = ["Pruner", "Removed", "needed_columns", "ranking_temperatures", "remove"]
