"""One module per kind of picture: its needs, its numbers, its drawing and its words."""
