"""The reference experiment: networks, data sets, training, parallel runs."""
