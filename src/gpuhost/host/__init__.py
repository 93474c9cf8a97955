"""Everything that runs on a host: Python 3.6 and the standard library, nothing of the catalog."""
