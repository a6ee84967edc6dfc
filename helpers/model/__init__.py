"""Backbones, their bottlenecks, and the heads trained on them."""
