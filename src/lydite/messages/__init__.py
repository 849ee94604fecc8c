"""The nouns: what travels between rooms, frozen and parsed once. Knows nothing of I/O.

Every noun is a ``msgspec.Struct`` with one accepted spelling, see ``canonical``.
"""
