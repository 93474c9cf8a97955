"""Code on its way to a host, and the answers on their way back. The only room that sends or receives."""
