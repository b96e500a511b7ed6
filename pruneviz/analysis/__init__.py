"""Numbers derived from the log's tables: pure functions from DataFrames to DataFrames, without torch and without matplotlib."""
