"""Pictures from tables, without torch."""
