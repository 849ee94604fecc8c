"""What a TPM says of its machine: a quote, what was booted, and every file that was run."""
