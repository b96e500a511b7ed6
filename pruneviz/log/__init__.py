"""Recordings on disk: tables, files, one run directory, many runs."""
