"""Telemetry of a GPU: whether what it drew and did fits the work that was declared."""
