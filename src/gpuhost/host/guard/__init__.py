"""Keeping updates away from the driver and its kernel, and proving it."""
