"""Claims about a host, each judged from what was collected. Pure."""
