"""Judging a host as it is found, without a lock, root or anything installed. Python 3.6."""
