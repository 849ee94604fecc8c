"""Keys and state that open on one machine, in one condition, and never as an older copy."""
