"""Collect a host and have it judged check by check: what `verify/` drives."""
