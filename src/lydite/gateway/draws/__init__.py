"""Audit epochs: pledged before anyone can know what they draw, opened after the beacon spoke."""
