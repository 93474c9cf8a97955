"""The host's check of itself, at boot, each hour and after each run of dpkg."""
