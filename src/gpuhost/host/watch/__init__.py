"""The host's own look at itself, at boot, each hour and after each run of dpkg."""
