"""Moved to `helpers.model.experiment`; goes when no maker imports it any more."""

from helpers.model.experiment import scores_of, whole_folder  # noqa: F401
