"""Several processes on one port, one log: workers serve, the main process records and signs."""
