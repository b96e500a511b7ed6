"""Plans of runs, the runs that each figure needs, presets and expected durations."""
