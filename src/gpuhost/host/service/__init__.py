"""The detection service on a host: its units, socket, user, settings, keys and the proxy in front of it."""
