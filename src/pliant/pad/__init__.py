"""pliant.pad."""
