"""Anytime-valid evidence: e-processes, how to merge them, and how many tokens they need.

Pure arithmetic on counts and integers. Knows nothing of models, providers or policies: what a
bin means, and what level accuses, is for others to say.
"""
