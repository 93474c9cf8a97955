"""Installing, keeping and removing the driver."""
