"""One module per kind of picture: required columns, numbers, drawing and text."""
