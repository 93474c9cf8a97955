"""VirtualBox beside the driver: installing, keeping and removing it. Python 3.6 and the standard library."""
