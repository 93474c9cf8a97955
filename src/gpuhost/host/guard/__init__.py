"""Keeping updates from the driver and its kernel, and proving it."""
