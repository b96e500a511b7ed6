"""Pictures from tables. Without torch."""
