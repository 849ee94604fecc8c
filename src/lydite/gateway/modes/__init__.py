"""Whose weights run: upload, whitelist, power; a machine serves what is listed, or is dark."""
