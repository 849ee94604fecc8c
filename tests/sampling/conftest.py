"""Imports py_ecc as lydite does, so that the recursion limit of the test run stays as it is."""

from lydite.sampling import bls

__all__ = ["bls"]
