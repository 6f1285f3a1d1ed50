"""pliant.metrics."""
