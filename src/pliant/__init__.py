"""pliant: train one compact vision model, run it on every device, know when to trust it."""

__version__ = "0.1.0"
