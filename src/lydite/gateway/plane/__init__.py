"""The data plane: requests in, answers out, byte for byte; holds no key and judges nothing."""
