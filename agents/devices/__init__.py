"""Device agents: key store, exchange driver, meter and gateway, and a fleet of them in one process."""
