"""A run's folder: what lies where under runs/<run>/, and the profile it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.run import paths
from helpers.run.profile import Profile, ProfileError, load_profile
from helpers.run.provenance import read_json, write_json
from helpers.run.steps import all_steps


@dataclass(frozen=True)
class Run:
    """Where one run keeps its things. Nothing here creates a folder: whoever writes a file does."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ProfileError(f"'{self.name}' cannot name a run: small letters, digits, '-' and '_' only")

    @property
    def folder(self) -> Path:
        return paths.RUNS / self.name

    @property
    def figures(self) -> Path:
        return paths.FIGURES / self.name

    @property
    def profile_file(self) -> Path:
        return self.folder / "profile.json"

    def key(self, name: str) -> Path:
        """The key of a step or notebook as last planned: Snakemake runs it again when this file changes."""
        return self.folder / "keys" / f"{name}.json"

    @property
    def experiments(self) -> Path:
        return self.folder / "experiments"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def stage(self, name: str) -> Path:
        """What a stage leaves for Snakemake and the report: its key and warnings, nothing that changes by itself."""
        return self.folder / "stages" / f"{name}.json"

    def notebook(self, name: str) -> Path:
        return self.folder / "notebooks" / f"{name}.ipynb"

    def failed(self, name: str) -> Path:
        return self.folder / "failed" / f"{name}.ipynb"

    def record(self, name: str) -> Path:
        """What a notebook leaves for the report: its figures, tables, claims, warnings."""
        return self.folder / "records" / f"{name}.json"

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def timing(self, name: str) -> Path:
        return self.folder / "timings" / f"{name}.json"

    def save_profile(self, asked: str, overrides: Mapping[str, Any]) -> Profile:
        """Check the profile asked for, with its overrides, and keep both; the file changes only with its content."""
        profile = load_profile(asked, overrides)
        values = profile.model_dump(mode="json")
        content = {"asked": str(asked), "overrides": {key: values[key] for key in overrides}, "profile": values}
        write_json(self.profile_file, content)
        return profile

    def parameters(self) -> dict[str, Any]:
        """What a notebook of this run gets: the profile's name, the overrides, the run."""
        saved = self._saved()
        return {"profile": saved["asked"], "overrides": saved["overrides"], "run": self.name}

    def load_profile(self) -> Profile:
        """The profile this run was started with."""
        return Profile(**self._saved()["profile"])

    def _saved(self) -> dict[str, Any]:
        if not self.profile_file.is_file():
            raise ProfileError(f"{self.profile_file} is missing: start the run with `make reproduce`")
        return read_json(self.profile_file)


def failed_steps(run: Run) -> dict[str, str]:
    """The steps whose last start ended with an error, and the error; a step that was killed is among them."""
    found = {}
    for name in all_steps():
        if run.timing(name).is_file() and (error := read_json(run.timing(name))["error"]):
            found[name] = error
    return found
