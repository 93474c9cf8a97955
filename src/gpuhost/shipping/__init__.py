"""Sending code to a host, and receiving its answers. No other room sends or receives."""
