"""Moved to `helpers.model.experiment`; goes when no maker imports it any more."""

from helpers.model.experiment import Experiment as NetworkExperiment  # noqa: F401
from helpers.model.experiment import Images, affordable, pixels_of  # noqa: F401
from helpers.model.experiment import Inputs as Given  # noqa: F401
from helpers.model.experiment import Results as Made  # noqa: F401
