"""Claims about a host, each judged from what was collected and what is expected. Pure, and Python 3.6."""
