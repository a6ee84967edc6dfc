"""A notebook's handle on a study: opens it for a profile, hands out data and scores, keeps what is made."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey
from helpers.data.scan import unverified
from helpers.data.splits import Source, Split
from helpers.metrics.estimate import Estimate
from helpers.plots.style import NAMES, add_footnote, save_figure, shows_pixels
from helpers.run import paths, provenance
from helpers.run.cache import notebook_key, settings_of_notebook, settings_of_step
from helpers.run.claims import compare, load_published, other_recipe, settings
from helpers.run.profile import Profile, ProfileError, Run, load_profile, nearest, parse_overrides
from helpers.run.steps import left_out, needed, notebook_names, notebook_reads, paper_of, step_named
from helpers.runner import Experiment, experiment_of

Published = str | tuple[str, ...]  # one id of data/published/, or several


def open_study(
    notebook: str, profile: str = "phantom", overrides: str | Mapping[str, Any] | None = None, run: str = ""
) -> Study:
    """Open the study of one notebook.

    `profile` is a name in profiles/ or a TOML file's path, `overrides` a mapping of profile keys or 'key=value' words,
    `run` the folder under runs/ and figures/ (the profile's name where empty). Raises `ProfileError` with the nearest
    right name for anything unknown, and where the notebook lies in another checkout than the code.
    """
    _require_own_checkout()
    if notebook not in notebook_names():
        raise ProfileError(f"there is no notebook '{notebook}'{nearest(notebook, notebook_names())}")
    checked = load_profile(profile, parse_overrides(overrides))
    if notebook in (out := left_out(checked)):
        raise ProfileError(f"{notebook} is not part of profile {checked.name}: {out[notebook]}")
    return Study(notebook, checked, Run(run or checked.name))


def _require_own_checkout() -> None:
    """Refuse to run beside another checkout's code, which one shared environment would import silently."""
    here = Path.cwd()
    for folder in (here, here.parent):
        if (folder / "helpers" / "study.py").is_file() and folder.resolve() != paths.ROOT:
            raise ProfileError(
                f"this notebook lies in {folder}, but `helpers` is imported from {paths.ROOT}: start it with "
                f"`make lab` or `make reproduce` in {folder}, or run `pip install --no-deps -e .` there"
            )


class Study:
    """One notebook's study. Data and models are made, or found on disk, when first asked for."""

    def __init__(self, notebook: str, profile: Profile, run: Run) -> None:
        self.notebook, self.run, self._profile = notebook, run, profile
        self.profile = settings_of_notebook(notebook, profile)
        self.warnings: list[str] = []
        self._key = notebook_key(notebook, profile)
        self._reads = notebook_reads(notebook)
        self._source = Source(self._reads.data, self.profile)
        self._experiments: dict[str, Experiment] = {}
        self._figures: list[dict] = []
        self._tables: list[dict] = []
        self._found: list[str] = []
        self._claims: dict[str, Estimate] = {}
        self._grounds: dict[str, tuple[bool, str]] = {}
        self._collecting = provenance.collected_warnings(self.warnings)
        self._collecting.__enter__()

    # --- what the study reads -----------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        """The study's images, checked; see `helpers.data.catalogue`."""
        return self._source.catalogue

    @property
    def split(self) -> Split:
        """`split.frame`: the rows used, with `split` (train, validation, test); `split.dropped`: those left out."""
        return self._source.split

    def experiment(self, name: str) -> Experiment:
        """A trained head or network, its history and scores; trained now if this run has not trained it yet."""
        if name not in self._experiments:
            self._experiments[name] = experiment_of(name, self.run, self._profile)
        return self._experiments[name]

    def scores(self, name: str, selection: str = "validation", split: str = "test") -> pd.DataFrame:
        """An experiment's scores on one split, by the head that `selection` chose ("test" is the paper's way)."""
        scores = self.experiment(name).scores
        return scores[(scores["selection"] == selection) & (scores["split"] == split)].reset_index(drop=True)

    @cached_property
    def comparable(self) -> tuple[bool, str]:
        """Whether results may be held against the paper, and a sentence that says on which images they rest."""
        if not self._reads.data:
            return True, "The printed numbers themselves: no image is read."
        words = [f"{what} {text}" for what, text in self.differs.items() if what != "images" or self._images[0]]
        further = f" Not as in the paper: {'; '.join(words)}." if words and not self._source.catalogue.phantom else ""
        return not self.differs, self._images[1] + further

    @cached_property
    def differs(self) -> dict[str, str]:
        """What is not as in the paper, with the words: 'images' (or nobody verified them), 'network', 'training'."""
        if not self._reads.data:
            return {}
        steps, (same, sentence) = needed(self._reads.steps), self._images
        unknown = [unverified(one.catalogue.root, one.frame["digest"]) for one in self._sources] if same else [sentence]
        read = {key for step in steps for key in settings_of_step(step_named(step), self._profile).values()}
        found = {"images": "; ".join(filter(None, unknown)).rstrip(".")}
        found |= other_recipe(paper_of(self._reads.data).paper, self._profile, read)
        records = [provenance.read_json(self.run.stage(step)) for step in steps if self.run.stage(step).is_file()]
        cut = [text for record in records for text in record["warnings"] if text.startswith("no GPU: ")]
        found["training"] = "; ".join(filter(None, (found.get("training"), *cut)))
        return {what: text for what, text in found.items() if text}

    @cached_property
    def _images(self) -> tuple[bool, str]:
        """Whether these are as many images as the paper's, of every data set that is read, and a sentence of them."""
        described = (source.description for source in self._sources)
        first = next(described)
        return next((found for found in described if not found[0]), first) if first[0] else first

    @cached_property
    def _sources(self) -> list[Source]:
        """The study's own data set, then those that its steps read beside it (a bridge data set, say)."""
        others = {step_named(step).data for step in needed(self._reads.steps)} - {self._reads.data}
        return [self._source, *(Source(name, self.profile) for name in sorted(others))]

    # --- what the study leaves ----------------------------------------------------------------------------------

    def figure(self, name: str, figure: Figure, *, shows: str, caption: str, published: Published = ()) -> None:
        """Save `figure` as PDF and PNG under figures/<run>/<notebook>/ and show it here and now.

        `shows` is what it reproduces ('Figure 4A'), `published` the ids of its rows in data/published/, if it has any.
        What is no evidence about the paper says so at its foot. Files carry no date: the same figure is the same file.
        """
        note = "" if self.comparable[0] else self.comparable[1]
        add_footnote(figure, note)
        pixels = shows_pixels(figure)
        folder = self.run.figures / self.notebook
        for suffix in (".pdf", ".png"):
            provenance.write_atomically(folder / f"{name}{suffix}", lambda file: save_figure(figure, file))
        self._figures.append(_item(name, shows, caption, published, pixels=pixels))
        width = round(figure.get_size_inches()[0] * 110)
        data = (folder / f"{name}.png").read_bytes()
        picture = Image(data=data, format="png", width=width, alt=f"{shows}: {caption}")
        display(picture, metadata={provenance.MADE: f"{name}.png"})

    def table(
        self,
        name: str,
        table: pd.DataFrame,
        *,
        shows: str,
        caption: str,
        published: Published = (),
        compared: Literal["exactly", "by interval", "by shape"] = "by interval",
        shown: Any = None,
    ) -> None:
        """Save `table` as CSV under figures/<run>/<notebook>/ and show it here and now, or `shown` in its place.

        `compared` says what `make compare` asks of it on another machine: the same table ("exactly"), for no training
        is behind it; estimates no farther apart than by chance; or the same rows and columns ("by shape"), where one
        training decides the numbers and their interval does not hold the spread between trainings.
        """
        path, named = self.run.figures / self.notebook / f"{name}.csv", any(table.index.names)
        provenance.write_atomically(
            path, lambda file: table.to_csv(file, index=named, float_format="%.6g", lineterminator="\n")
        )
        self._tables.append(_item(name, shows, caption, published, compared=compared))
        named = table.rename(index=NAMES, columns=NAMES).map(lambda value: NAMES.get(value, value))
        with pd.option_context("display.precision", 3, "display.max_colwidth", 120):
            display(named if shown is None else shown, metadata={provenance.MADE: f"{name}.csv"})

    def found(self, sentences: Iterable[str]) -> None:
        """Show what this run found as a list, and keep it for the report: three to six sentences, made from numbers."""
        self._found = list(sentences)
        if not 3 <= len(self._found) <= 6:
            raise ValueError(f"{self.notebook}: three to six sentences say what was found, not {len(self._found)}")
        if not self.comparable[0]:
            self._found.append(f"None of this counts for or against the paper. {self.comparable[1]}")
        display(Markdown("\n".join(f"- {one}" for one in self._found)), metadata={provenance.MADE: "found"})

    def claim(self, claim: str, obtained: Estimate | float, grounds: tuple[bool, str] | None = None) -> None:
        """Record what this study obtained for the published number with this id; it must be one in data/published/.

        `grounds`: whether it may be held against the paper and what it rests on, where that is not `comparable`.
        """
        self._claims[claim] = obtained if isinstance(obtained, Estimate) else Estimate.exact(obtained)
        self._grounds.pop(claim, None)
        if grounds is not None:
            self._grounds[claim] = grounds

    def warn(self, text: str) -> None:
        """Warn of something that the report must repeat."""
        warnings.warn(text, UserWarning, stacklevel=2)

    def claims(self) -> pd.DataFrame:
        """Published beside obtained, with a verdict, for every claim that belongs to this notebook.

        Raises `ClaimError` for a claimed id that data/published/ does not have, with the nearest.
        """
        published = load_published()
        obtained = {name: Estimate.exact(value) for name, value in settings(published, self._profile).items()}
        obtained |= self._claims
        table = compare(published, obtained, self.differs, self._grounds)
        return table[table["notebook"] == self.notebook].reset_index(drop=True)

    def finish(self) -> pd.DataFrame:
        """Leave the record the report is made from, and return the notebook's claims. The last cell calls this."""
        claims = self.claims()
        self._collecting.__exit__(None, None, None)
        facts = self._facts()
        provenance.write_json(self.run.figures / self.notebook / "tables.json", facts)
        left = {
            "notebook": self.notebook,
            "key": self._key,
            "profile": self._profile.model_dump(mode="json"),
            "data": self.comparable[1],
            "differs": self.differs,
            "facts": facts["data"],
            "excluded": self.catalogue.excluded_by_reason() if self._reads.data else [],
            "figures": self._figures,
            "tables": self._tables,
            "found": self._found,
            "claims": claims.to_dict("records"),
            "obtained": {name: found.as_dict() for name, found in self._claims.items()},
            "warnings": self.warnings,
            "versions": provenance.versions(),
            "hardware": provenance.describe(),
            "commit": provenance.commit(),
        }
        provenance.write_json(self.run.record(self.notebook), left)
        return claims

    def _facts(self) -> dict[str, Any]:
        """What no training decides, for `make compare`: tables by name, and the data in counts and grey levels."""
        data: dict[str, Any] = {}
        if self._reads.data:
            frame = self.split.frame.sort_values("image_id")
            columns = ["image_id", "patient_id", "label", "split"]
            data = {"source": self.catalogue.name, "rows": provenance.digest_of(frame[columns].to_csv(index=False))}
            data |= {f"{part} images": int(count) for part, count in frame["split"].value_counts().items()}
            data |= {"patients": int(frame["patient_id"].nunique())} if self.catalogue.patients_known else {}
        if self._reads.data and self.catalogue.phantom:
            for label, path in frame.groupby("label")["path"].first().items():
                data[f"mean grey level, {label}"] = round(float(read_grey(self.catalogue.file(path)).mean()), 2)
        return {"data": data, "compared": {item["name"]: item["compared"] for item in self._tables}}


def _item(name: str, shows: str, caption: str, published: Published, **more: Any) -> dict[str, Any]:
    ids = [published] if isinstance(published, str) else list(published)
    return {"name": name, "shows": shows, "caption": caption, "published": ids, **more}
