"""Signatures over bytes: DSSE envelopes, signed notes, keys. Knows nothing of what is signed."""
