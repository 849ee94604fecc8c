"""Evidence of which firmware runs in NVIDIA GPUs and switches in their confidential mode."""
