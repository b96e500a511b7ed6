"""What a recording is on disk: the tables, their files, one run directory, many runs."""
