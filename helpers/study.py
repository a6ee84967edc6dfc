"""A notebook's handle on a study: opens it for a profile, hands out data and scores, keeps what is made."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from helpers.metrics.estimate import Estimate
from helpers.run.paths import PUBLISHED as PRINTED
from helpers.run.profile import Profile, ProfileError, load_profile, nearest, parse_overrides
from helpers.run.provenance import collected_warnings, commit, digest_of, versions, write_atomically, write_json
from helpers.run.runs import Run, notebook_names
from helpers.run.stages import Parts, experiment_of, readers_of
from helpers.run.steps import STEPS, needed, reads

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import Image
    from matplotlib.figure import Figure

    from helpers.data.catalogue import Catalogue
    from helpers.data.splits import Split
    from helpers.model.experiment import Experiment
    from helpers.model.features import Features

Published = str | tuple[str, ...]  # one id of data/published/, or several


def open_study(
    notebook: str, profile: str = "phantom", overrides: str | Mapping[str, Any] | None = None, run: str = ""
) -> Study:
    """Open the study of one notebook.

    `profile` is a name in profiles/ or a TOML file's path, `overrides` a mapping of profile keys or 'key=value' words,
    `run` the folder under runs/ and figures/ (the profile's name where empty). Raises `ProfileError` with the nearest
    right name for anything unknown.
    """
    if notebook not in notebook_names():
        raise ProfileError(f"there is no notebook '{notebook}'{nearest(notebook, notebook_names())}")
    checked = load_profile(profile, parse_overrides(overrides))
    return Study(notebook, checked, Run(run or checked.name))


class Study:
    """One notebook's study. Data and models are made, or found on disk, when first asked for."""

    def __init__(self, notebook: str, profile: Profile, run: Run) -> None:
        self.notebook, self.profile, self.run = notebook, profile, run
        self.warnings: list[str] = []
        self._began = time.time()
        self.data = reads(notebook).data
        self._parts = Parts(profile, self.data)
        self._experiments: dict[str, Experiment] = {}
        self._figures: list[dict] = []
        self._tables: list[dict] = []
        self._claims: dict[str, Estimate] = {}
        self._grounds: dict[str, tuple[bool, str]] = {}
        self._collecting = collected_warnings(self.warnings)
        self._collecting.__enter__()

    # --- what the study reads -----------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The study's images, checked; see `helpers.data.catalogue`."""
        return self._parts.catalogue

    @property
    def split(self) -> Split:
        """`split.frame`: the rows used, with `split` (train, validation, test); `split.dropped`: those left out."""
        return self._parts.split

    @property
    def bottlenecks(self) -> Features:
        """The frozen backbone's features of every image, rows as `catalogue.frame`."""
        return self._parts.bottlenecks

    def experiment(self, name: str) -> Experiment:
        """A trained head or network, its history and scores; trained now if this run has not trained it yet."""
        if name not in self._experiments:
            self._experiments[name] = experiment_of(self._parts, self.run, name)
        return self._experiments[name]

    def scores(self, name: str, selection: str = "validation", split: str = "test") -> pd.DataFrame:
        """An experiment's scores on one split, by the head that `selection` chose ("test" is the paper's way)."""
        scores = self.experiment(name).scores
        return scores[(scores["selection"] == selection) & (scores["split"] == split)].reset_index(drop=True)

    @cached_property
    def readers(self) -> pd.DataFrame:
        """Reads of the test images (reader, image_id, label, simulated); empty where there are none."""
        return readers_of(self.profile, self.catalogue)

    @property
    def readers_are(self) -> str:
        """Who the readers are, in words for a figure: nobody may take simulated ones for people."""
        if self.readers.empty:
            return "no readers: the paper's reads are not public"
        people = self.readers["reader"].nunique()
        return f"{people} SIMULATED readers" if self.readers["simulated"].all() else f"{people} readers"

    @cached_property
    def comparable(self) -> tuple[bool, str]:
        """Whether results may be held against the paper, and a sentence that says on which images they rest."""
        if self.data == "published":
            return True, "The printed numbers themselves: no image is read."
        from helpers.data.sources import describes_paper

        own = describes_paper(self.catalogue)
        others = {STEPS[step].data for step in needed(reads(self.notebook).steps)} - {self.data} if own[0] else ()
        told = [describes_paper(Parts(self.profile, data).catalogue) for data in sorted(others)]
        return next((beside for beside in told if not beside[0]), own)  # a bridge that is not the paper's, say

    # --- what the study leaves ----------------------------------------------------------------------------------

    def figure(self, name: str, figure: Figure, *, shows: str, caption: str, published: Published = ()) -> Image:
        """Save `figure` as PDF and PNG under figures/<run>/<notebook>/ and return the picture for the notebook.

        `shows` is what it reproduces ('Figure 4A'), `published` the ids of its rows in data/published/, if it has any.
        What is no evidence about the paper says so at its foot. Files carry no date: the same figure is the same file.
        """
        from IPython.display import Image

        from helpers.plots.style import add_footnote, save_figure

        note = "" if self.comparable[0] else self.comparable[1]
        add_footnote(figure, note)
        folder = self.run.figures / self.notebook
        for suffix in (".pdf", ".png"):
            write_atomically(folder / f"{name}{suffix}", lambda file: save_figure(figure, file))
        self._figures.append(_item(name, shows, caption, published))
        width = round(figure.get_size_inches()[0] * 110)
        return Image(data=(folder / f"{name}.png").read_bytes(), format="png", width=width)

    def table(
        self, name: str, table: pd.DataFrame, *, shows: str, caption: str, published: Published = ()
    ) -> pd.DataFrame:
        """Save `table` as CSV under figures/<run>/<notebook>/ and return it for the notebook to show."""
        path, named = self.run.figures / self.notebook / f"{name}.csv", any(table.index.names)
        write_atomically(path, lambda file: table.to_csv(file, index=named, float_format="%.6g", lineterminator="\n"))
        self._tables.append(_item(name, shows, caption, published))
        return table

    def claim(self, claim: str, obtained: Estimate | float, grounds: tuple[bool, str] | None = None) -> None:
        """Record what this study obtained for the published number with this id; it must be one in data/published/.

        `grounds`: whether it may be held against the paper and what it rests on, where that is not `comparable`.
        """
        from helpers.run.claims import exact

        self._claims[claim] = obtained if isinstance(obtained, Estimate) else exact(obtained)
        self._grounds.pop(claim, None)
        if grounds is not None:
            self._grounds[claim] = grounds

    def warn(self, text: str) -> None:
        """Say something that the report must repeat."""
        if text not in self.warnings:
            self.warnings.append(text)
        warnings.warn(text, UserWarning, stacklevel=2)

    def claims(self) -> pd.DataFrame:
        """Published beside obtained, with a verdict, for every claim that belongs to this notebook.

        Raises `ClaimError` for a claimed id that data/published/ does not have, with the nearest.
        """
        from helpers.run.claims import compare, load_published, settings

        published = load_published()
        comparable, sentence = self.comparable
        obtained = settings(published, self.profile) | self._claims
        table = compare(published, obtained, comparable=comparable, why_not=sentence, grounds=self._grounds)
        return table[table["notebook"] == self.notebook].reset_index(drop=True)

    def finish(self) -> pd.DataFrame:
        """Leave the record the report is made from, and return the notebook's claims. The last cell calls this."""
        claims = self.claims()
        self._collecting.__exit__(None, None, None)
        write_json(self.run.record(self.notebook), self._record(claims))
        return claims

    def _record(self, claims: pd.DataFrame) -> dict[str, Any]:
        from helpers.run.hardware import describe

        made_from, excluded = self._made_from()
        return {
            "notebook": self.notebook,
            "run": self.run.name,
            "profile": self.profile.model_dump(mode="json"),
            "comparable": self.comparable[0],
            "data": self.comparable[1],
            "excluded": excluded,
            "fingerprints": made_from,
            "figures": self._figures,
            "tables": self._tables,
            "claims": claims.to_dict("records"),
            "warnings": self.warnings,
            "versions": versions(),
            "hardware": describe(),
            "commit": commit(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._began)) + " UTC",
            "seconds": round(time.time() - self._began, 1),
        }

    def _made_from(self) -> tuple[dict[str, str], list[dict]]:
        """Fingerprints of what was read, and the files set aside."""
        if self.data != "published":
            told = {"data": self.catalogue.fingerprint(), "source": self.catalogue.name}
            return told, self.catalogue.excluded.to_dict("records")
        texts = [path.read_text(encoding="utf-8") for path in sorted(PRINTED.glob("*.csv"))]
        return {"data": digest_of(texts), "source": "data/published"}, []


def _item(name: str, shows: str, caption: str, published: Published) -> dict[str, Any]:
    ids = [published] if isinstance(published, str) else list(published)
    return {"name": name, "shows": shows, "caption": caption, "published": ids}
