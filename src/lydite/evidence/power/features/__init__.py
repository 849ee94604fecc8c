"""Numbers that describe a window: what each is called and means, and how it is computed."""
