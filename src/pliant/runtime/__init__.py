"""pliant.runtime."""
