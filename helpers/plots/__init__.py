"""Figures at print size: what several papers' figures are drawn with."""
