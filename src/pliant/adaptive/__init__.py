"""pliant.adaptive."""
