"""Asks servers that do not co-operate, and weighs what they say."""
