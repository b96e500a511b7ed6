"""What one run is, which runs a figure needs, the presets, and how long they take."""
