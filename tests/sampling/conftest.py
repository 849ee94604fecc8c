"""Imports py_ecc the way lydite does, so that the recursion limit of the test run stays as it is."""

from lydite.sampling import bls

__all__ = ["bls"]
