"""One module for each kind of picture: its needs, its table, its drawing."""
