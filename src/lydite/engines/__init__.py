"""Model servers: the in-process engine with our seeded sampler, and the server in front of it."""
