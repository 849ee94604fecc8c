"""Reads what the sensors of a machine say of its GPUs, and seals it. Knows no verdict."""
