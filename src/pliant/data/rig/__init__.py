"""pliant.data.rig."""
