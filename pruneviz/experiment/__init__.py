"""The reference experiment: networks, data sets, training, runs side by side."""
