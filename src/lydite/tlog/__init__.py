"""The transparency log: tree, tiles, checkpoints, proofs, witnesses.

Knows nothing of what an entry means: entries are bytes.
"""
