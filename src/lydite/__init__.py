"""lydite verifies AI inference: which bytes, which box, which model, under one error budget."""

__version__ = "0.1.0"
