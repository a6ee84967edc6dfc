"""The loss of several yes/no answers per image."""

from __future__ import annotations

import numpy as np


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean binary cross-entropy of each label, float64 (labels,), of logits and bools (n, labels)."""
    logits = np.asarray(logits, np.float64)
    return (np.logaddexp(0, logits) - logits * truth).mean(axis=0)
