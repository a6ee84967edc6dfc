"""A data set as a run uses it: its catalogue and split, loaded when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from helpers.data.catalogue import Catalogue, phantoms_described
from helpers.data.splits import Split
from helpers.run.cache import resolve
from helpers.run.profile import Settings
from helpers.run.steps import data_function


@dataclass
class Source:
    """One of the data sets that the papers' STUDYs declare, with the settings it is loaded and split by."""

    name: str
    settings: Settings

    @cached_property
    def catalogue(self) -> Catalogue:
        """The images: drawn where they are phantoms that are not there yet, else looked for in `data_dir`."""
        return resolve(data_function("load", self.name))(self.settings)

    @cached_property
    def split(self) -> Split:
        """The catalogue's rows with their `split`, and those dropped; see `helpers.data.splits`."""
        return resolve(data_function("split", self.name))(self.catalogue, self.settings)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows that are used, with their `split`."""
        return self.split.frame

    @property
    def description(self) -> tuple[bool, str]:
        """Whether these are the images of the paper, and a sentence for reports that says what they are."""
        if self.catalogue.phantom:
            return phantoms_described(self.catalogue)
        return resolve(data_function("describe", self.name))(self.catalogue)
