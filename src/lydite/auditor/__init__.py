"""The auditor: draws from the log, recomputes what was drawn, writes what was found.

Holds the I/O of auditing. Knows nothing of how evidence is made; never imports an attester.
"""
