"""Phantoms: images drawn from a seed, with all of their truth.

`phantom_*` are data sets and how they are kept; `chest_*` is what the radiographs are drawn from.
"""
