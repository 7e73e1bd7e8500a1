"""Baselines on the arrays and splits of a run: what a person would have got without its model."""
