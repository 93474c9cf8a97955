"""Judging a host as it is, without a lock, without root and with nothing installed on it. Python 3.6."""
