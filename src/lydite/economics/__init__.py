"""What verification costs and buys, computed from stated inputs: rollout, coverage, upload, checks.

Pure arithmetic. Knows no servers, clocks or files: whoever asks brings inputs and measurements.
"""
