"""Figures at print size: one module a paper, one function a figure."""
