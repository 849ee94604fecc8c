"""What leaves beyond what the sampler explains: charged, budgeted, paced, stopped."""
