"""Profiles: what a run is made of, read from a small TOML file into a frozen object, checked before anything starts.

Every key is flat, so one name serves the TOML file, the command line (`make reproduce HEAD_STEPS=500`) and a
notebook's parameters (`-p overrides "head_steps=500"`). Case and `-`/`_` do not matter there.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from helpers.run.keys import CoreKeys, ProfileError, nearest
from helpers.run.paths import PROFILES, ROOT
from helpers.run.steps import studies


class Profile(CoreKeys, *(study.keys for study in reversed(studies().values()) if study.keys is not BaseModel)):
    """All that a run may vary."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


KEYS = tuple(Profile.model_fields)
NEUTRAL = ("name", "workers", "data_dir")  # change no result: the data's content counts, not where they lie
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
    path = Path(name) if str(name).endswith(".toml") else PROFILES / f"{name}.toml"
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
    """The absolute path where a text names a file, meant from `folder`; `ProfileError` where that file is missing."""
    if not isinstance(value, str) or not value or key == "data_dir":
        return value
    path = folder / Path(value).expanduser()
    if path.is_file():
        return str(path.resolve())
    if key.endswith("_file") or os.sep in value or path.suffix in (".h5", ".keras"):
        raise ProfileError(f"{key}={value}: there is no file {path}")
    return value


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
