"""Tokens as evidence: whether the declared model, so sampled, would have said this."""
