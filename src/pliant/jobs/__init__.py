"""pliant.jobs."""
