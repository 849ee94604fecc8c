"""Experiments on measured power: what recognises work, under which split, at what price to whom."""
