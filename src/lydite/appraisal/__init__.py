"""Judgement: policy, aggregation of Findings, the decision, and the bundle that anyone can check.

Knows nothing of how evidence is made, and of no key that signs.
"""
