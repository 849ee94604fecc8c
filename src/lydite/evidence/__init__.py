"""Kinds of evidence, one folder each, with one floor plan: claims, reference, attester, verifier."""
