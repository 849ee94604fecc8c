"""Raw TPM 2.0: seals a secret to the state of a machine, and counts what cannot be counted back.

Speaks to a kernel device or to a software TPM. Knows nothing of gateways, logs or policies.
"""
