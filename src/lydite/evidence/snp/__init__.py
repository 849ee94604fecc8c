"""Evidence that a guest runs in memory that its processor encrypts: AMD SEV-SNP."""
