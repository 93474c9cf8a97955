"""Collect a host, judge it check by check, and reach a verdict: what `verify/` drives."""
