"""Exact distributional dynamic programming with stock augmentation, in finite MDPs."""
