"""pliant.data."""
