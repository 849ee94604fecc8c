"""Kinds of evidence, one folder each, one floor plan: claims, reference, attester, verifier."""
