"""Which receipts are audited, and how an outsider recounts it.

A beacon that nobody controls, a VRF that only the gateway can evaluate, and the draw that the two
decide. Pure: time, randomness and keys are arguments. Knows nothing of what an audit does.
"""
