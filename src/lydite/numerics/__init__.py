"""Numerics passports: how honest stacks are measured, merged into a null, and held against it."""
