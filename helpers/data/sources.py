"""Which wing loads, splits and describes each data set, by the data set's name."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

from helpers.data.catalogue import Catalogue, phantoms_described
from helpers.data.splits import Split

WINGS = {
    **dict.fromkeys(("oct", "xray"), "kermany"),
    "views": "rajkomar",
    **dict.fromkeys(("covid", "octid"), "carr"),
    **dict.fromkeys(("nih", "sites", "regions"), "zech"),
}
NAMES = {"kermany_oct": "oct", "kermany_xray": "xray", "covid_xray": "covid", "openi": "views", "cohen_views": "views"}


def _function(verb: str, data: str):
    return getattr(import_module(f"helpers.{WINGS[data]}.data"), f"{verb}_{data}")


def load(data: str, settings) -> Catalogue:
    return _function("load", data)(settings)


def split(data: str, catalogue: Catalogue, settings) -> Split:
    return _function("split", data)(catalogue, settings)


def folders(data: str, settings) -> list[Path]:
    """What the data set is read from outside the project; empty for phantoms."""
    return _function("folders", data)(settings)


LOADERS = {data: partial(load, data) for data in WINGS}


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these images are the published ones, and a sentence for reports that says what they are."""
    if catalogue.phantom:
        return phantoms_described(catalogue)
    return _function("describe", NAMES.get(catalogue.name, catalogue.name))(catalogue)
