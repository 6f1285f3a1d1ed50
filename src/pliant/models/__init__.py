"""pliant.models."""
