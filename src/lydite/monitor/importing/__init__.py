"""Telemetry that others recorded, as traces with labels: one module a family of formats."""
