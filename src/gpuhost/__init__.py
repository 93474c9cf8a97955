"""A lockfile for GPU hosts: one pinned, mutually compatible stack for the card that is really there."""

__version__ = "0.1.0"
