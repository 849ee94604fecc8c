"""The gateway: forwards requests byte for byte and leaves one receipt for each in the log.

A service. Judges nothing and knows nothing of auditors beyond the keys whose entries it accepts.
"""
