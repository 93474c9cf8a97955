"""Collect data from a host and judge it check by check. Used by `verify/`."""
