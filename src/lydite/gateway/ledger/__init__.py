"""What was answered, kept: receipts made, journal and log written, pairs enciphered and let go."""
