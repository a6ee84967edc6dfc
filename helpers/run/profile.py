"""Profiles: what a run is made of, read from a small TOML file into a frozen object, checked before anything starts.

Every key is flat, so one name serves the TOML file, the command line (`make reproduce HEAD_STEPS=500`) and a
notebook's parameters (`-p overrides "head_steps=500"`). Case and `-`/`_` do not matter there.
"""

from __future__ import annotations

import difflib
import importlib
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import ConfigDict, ValidationError

from helpers.run.keys import CoreKeys
from helpers.run.paths import PROFILES


class ProfileError(ValueError):
    """A profile, or an override of one, that cannot be used; the message says what to write instead."""


PAPERS = ("kermany", "rajkomar", "carr", "zech")  # the wings, whose keys a profile has beside the core's


class Profile(*(importlib.import_module(f"helpers.{paper}").STUDY.keys for paper in PAPERS), CoreKeys):
    """All that a run may vary."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @property
    def phantom(self) -> bool:
        """True where all images are made here, so that no result is evidence about a paper."""
        sources = [key for key in type(self).model_fields if key.endswith("_source")]
        return all(getattr(self, key).startswith("phantom") for key in sources)


KEYS = tuple(Profile.model_fields)
LISTS = {key for key, field in Profile.model_fields.items() if get_origin(field.annotation) is tuple}


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name most like `word`, whatever its case; else the list of names."""
    spelt = {str(name).lower(): str(name) for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.5)
    return f"; did you mean {spelt[close[0]]}?" if close else f"; known: {', '.join(sorted(spelt.values()))}"


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
    given = parse_overrides(overrides)
    if "backbone" in given:  # a backbone that is asked for is meant for every network that is not named as well
        values |= {key: "" for key in KEYS if key.endswith("_backbone")}
    for key, value in given.items():
        values[key] = _words(value) if key in LISTS else value
    try:
        return Profile(**{"name": path.stem, **values})
    except ValidationError as error:
        raise ProfileError("; ".join(_explain(problem) for problem in error.errors())) from None


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
