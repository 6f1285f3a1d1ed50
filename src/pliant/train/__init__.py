"""pliant.train."""
