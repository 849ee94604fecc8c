"""What the gateway answers itself: receipts and log, its operator's port, its officers' orders."""
