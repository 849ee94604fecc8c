"""The signature database: traces with their labels, provenance and licence, kept for comparison."""
