"""Profiles: what a run is made of, read from a small TOML file into a frozen object, checked before anything starts.

Every key is flat, so one name serves the TOML file, the command line (`make reproduce HEAD_STEPS=500`) and a
notebook's parameters (`-p overrides "head_steps=500"`). Case and `-`/`_` do not matter there.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from helpers.run import paths
from helpers.run.paths import PROFILES, ROOT
from helpers.run.provenance import read_json, write_json
from helpers.run.steps import CoreKeys, ProfileError, all_steps, nearest, studies


class Profile(CoreKeys, *(study.keys for study in reversed(studies().values()) if study.keys is not BaseModel)):
    """All that a run may vary."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


KEYS = tuple(Profile.model_fields)
NEUTRAL = ("name", "workers", "data_dir", "lung_masks")  # change no result: content counts, not where it lies
LISTS = {key for key, field in Profile.model_fields.items() if get_origin(field.annotation) is tuple}


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def parse_overrides(given: str | Iterable[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides as a mapping of profile keys, from a mapping, 'key=value' words, or one string of such words.

    Raises `ProfileError` for a word without '=' and for an unknown key, naming the nearest one.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = list(given.items())
    else:
        words = shlex.split(given) if isinstance(given, str) else list(given)
        for word in words:
            if "=" not in word:
                raise ProfileError(f"'{word}' is not an override; write key=value, such as head_steps=500")
        pairs = [tuple(word.split("=", 1)) for word in words]
    overrides: dict[str, Any] = {}
    for key, value in pairs:
        name = str(key).strip().lower().replace("-", "_")
        if name not in KEYS or name == "name":
            raise ProfileError(f"the profile has no key '{key}'{nearest(name, [k for k in KEYS if k != 'name'])}")
        overrides[name] = value
    return overrides


def load_profile(name: str = "phantom", overrides: str | Iterable[str] | Mapping[str, Any] | None = None) -> Profile:
    """The profile `name` (a file of profiles/, or a path to a TOML file) with overrides applied.

    An override of `backbone` holds for every network: the keys that end in `_backbone` then count only as overrides.
    Raises `ProfileError`, with the nearest right name, for an unknown profile, key, type or value.
    """
    path = Path(name).expanduser() if str(name).endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        raise ProfileError(f"there is no profile '{name}'{nearest(str(name), profile_names())}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not valid TOML: {error}") from None
    for key in values:
        if key not in KEYS:
            raise ProfileError(f"{path}: the profile has no key '{key}'{nearest(key, KEYS)}")
    values = {key: _from_folder(key, value, ROOT) for key, value in values.items()}
    given = parse_overrides(overrides)
    if "backbone" in given:  # a backbone that is asked for is meant for every network that is not named as well
        values |= {key: "" for key in KEYS if key.endswith("_backbone")}
    for key, value in given.items():
        values[key] = _words(value) if key in LISTS else _from_folder(key, value, Path.cwd())
    try:
        return Profile(**{"name": path.stem, **values})
    except ValidationError as error:
        raise ProfileError("; ".join(_explain(problem) for problem in error.errors())) from None


def _from_folder(key: str, value: Any, folder: Path) -> Any:
    """The absolute path where a text names a file, meant from `folder`; `ProfileError` where that file is missing.

    A key that ends in "_masks" names a folder. A word such as imagenet stays one, whatever files lie there.
    """
    if not isinstance(value, str) or not value or key == "data_dir":
        return value
    path, kind = folder / Path(value).expanduser(), "folder" if key.endswith("_masks") else "file"
    if not (key.endswith(("_file", "_masks")) or os.sep in value or path.suffix in (".h5", ".keras")):
        return value
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ProfileError(f"{key}={value}: there is no {kind} {path}")
    return str(path.resolve())


def _words(value: Any) -> Any:
    """A list given as text, '0,0.001' or '[0, 0.001]', as its words; anything else unchanged."""
    if isinstance(value, str):
        return tuple(word for word in value.strip("[]() ").replace(",", " ").split())
    return (value,) if isinstance(value, int | float) else value


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"][:1]) or "profile"
    text = f"{key}={problem.get('input')!r}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "literal_error":
        expected = [word.strip("' ") for word in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
        text += nearest(str(problem.get("input")), expected)
    return text


class Settings:
    """The part of a profile that a step or notebook declares to read, with the profile's own attribute names.

    Reading another key raises `ProfileError`, so that none can be missing in the digest that a result is kept under.
    """

    def __init__(self, profile: Profile, names: Iterable[str], reader: str) -> None:
        self._profile, self._names, self._reader = profile, frozenset(names), reader

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by copy and pickle before there is a profile
            raise AttributeError(name)
        if name in KEYS and name not in self._names and name not in NEUTRAL:
            raise ProfileError(f"{self._reader} reads '{name}' without naming it: add it to its keys in the STUDY")
        return getattr(self._profile, name)

    @property
    def whole(self) -> Profile:
        """The profile that these are a part of, from which keys are made."""
        return self._profile

    def values(self) -> dict[str, Any]:
        """The settings by name, those left out that cannot change a result."""
        return {name: getattr(self._profile, name) for name in sorted(self._names.difference(NEUTRAL))}


def keys_matching(names: Iterable[str]) -> set[str]:
    """The profile's keys of these names; a name that ends in '_' stands for all keys that begin so.

    Raises `ProfileError` for a name that no key has.
    """
    found: set[str] = set()
    for name in names:
        matching = {key for key in KEYS if key == name or (name.endswith("_") and key.startswith(name))}
        if not matching:
            raise ProfileError(f"a STUDY names the key '{name}', which no profile has{nearest(name, KEYS)}")
        found |= matching
    return found


@dataclass(frozen=True)
class Run:
    """Where one run keeps its things. Nothing here creates a folder: whoever writes a file does."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ProfileError(f"'{self.name}' cannot name a run: small letters, digits, '-' and '_' only")
        if self.name in ("real", "reference"):
            raise ProfileError(f"figures/{self.name}/ is committed: give the run another name, RUN={self.name}-run")

    @property
    def folder(self) -> Path:
        return paths.RUNS / self.name

    @property
    def figures(self) -> Path:
        return paths.FIGURES / self.name

    @property
    def profile_file(self) -> Path:
        return self.folder / "profile.json"

    @property
    def experiments(self) -> Path:
        return self.folder / "experiments"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def _file(self, folder: str, suffix: str, name: str) -> Path:
        """What a run keeps of the step or notebook of this name."""
        return self.folder / folder / f"{name}{suffix}"

    key = partialmethod(_file, "keys", ".json")  # as last planned: Snakemake runs it again when this file changes
    stage = partialmethod(_file, "stages", ".json")  # a step's key and warnings, nothing that changes by itself
    notebook = partialmethod(_file, "notebooks", ".ipynb")
    failed = partialmethod(_file, "failed", ".ipynb")
    record = partialmethod(_file, "records", ".json")  # a notebook's figures, tables, claims, warnings
    log = partialmethod(_file, "logs", ".log")
    timing = partialmethod(_file, "timings", ".json")

    def save_profile(self, asked: str, overrides: Mapping[str, Any]) -> Profile:
        """Check the profile asked for, with its overrides, and keep both; the file changes only with its content."""
        profile = load_profile(asked, overrides)
        values = profile.model_dump(mode="json")
        if asked.endswith(".toml"):  # meant from where the user stands; notebooks run in their own folder
            asked = str(Path(asked).expanduser().resolve())
        content = {"asked": asked, "overrides": {key: values[key] for key in overrides}, "profile": values}
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
