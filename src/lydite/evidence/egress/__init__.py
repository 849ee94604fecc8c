"""Egress as evidence: how many bits an answer can carry beyond what its sampler explains."""
