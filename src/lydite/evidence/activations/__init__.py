"""Activations as evidence: whether the declared model's numbers were behind these tokens."""
