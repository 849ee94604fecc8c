"""Endpoints as evidence: what any server gives away to whoever only asks it."""
