"""What lies in a data folder: `make check DATA_DIR=...`.

A check prints one screen, and a line per data set before a run on it. Each data set is looked for and read by its own
loader, so that nothing is found here that a run would not find. Every image is opened once; what was found is kept (see
`scan`), so that the run that follows does not open it again.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Iterable
from pathlib import Path

from helpers.data.catalogue import Catalogue
from helpers.data.scan import Place, is_stray, printable
from helpers.data.splits import Source, dropped
from helpers.run.cache import resolve, settings_of_step
from helpers.run.profile import Profile
from helpers.run.steps import all_notebooks, data_function, data_step, needed, step_named, studies

WIDTH = 118  # characters of a line
NAMED = 3  # reasons, and unknown files, that are named; the others are counted


def real_places(profile: Profile) -> dict[str, tuple[Place, ...]]:
    """Where each data set that is not drawn is read from."""
    names = [name for study in studies().values() for name in study.data]
    places = {name: tuple(resolve(data_function("places", name))(profile)) for name in names}
    return {name: found for name, found in places.items() if found}


def check(profile: Profile) -> int:
    """Print what each data set's folder holds; the exit status is 1 where something that lies there cannot be used."""
    places, data_dir, states = real_places(profile), profile.data_dir, set()
    _print(f"{data_dir} (profile {profile.name}; {len(places)} data sets are looked for)")
    for name, where in places.items():
        readers = [notebook[:2] for notebook in all_notebooks() if name in _data_of(notebook)]
        _print(f"{name} (notebooks {' '.join(readers)}): {_sources(where, data_dir)}")
        source, warned, error = _read(name, profile)
        state = "READ" if not error else "NOT THERE" if isinstance(error, FileNotFoundError) else "NOT USABLE"
        states.add(state)
        if error:
            _print(f"{state}: {error}", lines=4, indent=2)
        else:
            _print(f"{source.description[1]} {_patients(source.catalogue, where)}", lines=2, indent=2)
            _print(_set_aside(source.catalogue), indent=2)
            told = [text.replace(f"{data_dir}/", "") for text in warned]  # a long path would leave no room for the rest
            _print("; ".join([*_shared(source.catalogue), *told]), lines=3, indent=2)
    _print(_others(profile, places), lines=2)
    return int("NOT USABLE" in states or "READ" not in states)


def check_shortly(profile: Profile, notebooks: Iterable[str]) -> None:
    """Print one line per data set that these notebooks read: what was found, or what is missing."""
    wanted = {name for notebook in notebooks if notebook in all_notebooks() for name in _data_of(notebook)}
    for name, where in real_places(profile).items():
        if name in wanted:
            source, _, error = _read(name, profile)
            found = f"{_sources(where, profile.data_dir)}; {_set_aside(source.catalogue)}" if not error else error
            _print(f"{name}: {found}", lines=2)


def _read(name: str, profile: Profile) -> tuple[Source, list[str], Exception | None]:
    """The data set, what its loader warned of, and what it failed with."""
    source, failed = Source(name, settings_of_step(data_step(name), profile)), None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        try:
            source.catalogue  # noqa: B018 - loads it
        except (OSError, ValueError) as error:
            failed = error
        except Exception as error:  # whatever lies there, the other data sets are still checked
            failed = RuntimeError(f"{type(error).__name__}: {error}")
    return source, [str(w.message) for w in warned if issubclass(w.category, UserWarning)], failed


def _data_of(notebook: str) -> set[str]:
    reads = all_notebooks()[notebook]
    return {reads.data, *(step_named(step).data for step in needed(reads.steps))}


def _sources(places: tuple[Place, ...], data_dir: Path) -> str:
    """The data sets by name, each with its folder below the data folder."""
    found = [(place.name, place.all_in(data_dir)) for place in places]
    return ", ".join(
        f"{name} in {' and '.join(root.relative_to(data_dir).as_posix() for root in roots)}" if roots else name
        for name, roots in found
    )


def _patients(catalogue: Catalogue, places: tuple[Place, ...]) -> str:
    frame = catalogue.frame
    if not catalogue.patients_known:
        return "No patient is named."
    counts = [frame.loc[frame["published_split"] == part, "patient_id"].nunique() for part in ("train", "test")]
    published = f" (published: {places[0].patients})" if len(places) == 1 and places[0].patients else ""
    return f"Patients: {counts[0]:,} and {counts[1]:,}{published}."


def _set_aside(catalogue: Catalogue) -> str:
    """How many images there are, and how many files are absent, or set aside for which reasons, the first one named."""
    absent = len(catalogue.excluded) - len(catalogue.set_aside)
    names = catalogue.set_aside["path"].str.split("/").str[-1]
    groups = names.groupby(catalogue.set_aside["reason"].str.split(":").str[0]).agg(["size", "first"])
    groups = groups.sort_values("size", ascending=False)
    reasons = [f"{row['size']:,} {reason} ({row['first']})" for reason, row in groups.head(NAMED).iterrows()]
    more = [f"{len(groups) - NAMED} more reasons"] if len(groups) > NAMED else []
    text = f"{len(catalogue):,} images" + (f"; absent: {absent:,}" if absent else "")
    return f"{text}; set aside: {', '.join([*reasons, *more]) or 'none'}"


def _shared(catalogue: Catalogue) -> list[str]:
    """Who is in both folders, and which images lie there twice."""
    frame, both = catalogue.frame, dropped(catalogue, "patient-disjoint")
    test = frame[frame["published_split"] == "test"]
    patients = both.loc[both["patient_id"].isin(test["patient_id"]), "patient_id"].nunique()
    files, labels = int(both["digest"].isin(test["digest"]).sum()), frame.groupby("digest")["label"].nunique()
    twice, torn = len(frame) - len(labels), int((labels > 1).sum())
    leak = f"LEAK: {patients:,} patients of the test folder, and {files:,} of its files, are in train too"
    none = f"no {'patient and no file' if catalogue.patients_known else 'file'} in both train and test"
    facts = [leak if len(both) else none]
    facts += [f"{twice:,} files are copies of others"] if twice else []
    return facts + ([f"DOUBTFUL: {torn:,} files have two labels"] if torn else [])


def _others(profile: Profile, places: dict[str, tuple[Place, ...]]) -> str:
    """What lies in the data folder and belongs to none of these."""
    data_dir = profile.data_dir
    read = [path for where in places.values() for place in where for path in place.all_in(data_dir)]
    read += [path for reads in all_notebooks().values() if reads.folders for path in resolve(reads.folders)(profile)]
    if data_dir in read or not data_dir.is_dir():
        return ""
    known = {path.relative_to(data_dir).parts[0] for path in read if path.is_relative_to(data_dir)}
    names = sorted({entry.name for entry in os.scandir(data_dir) if not is_stray(entry.name)} - known)
    more = f" and {len(names) - 2 * NAMED:,} more" if len(names) > 2 * NAMED else ""
    return f"none of these: {', '.join(names[: 2 * NAMED])}{more}" if names else ""


def _print(text: str, lines: int = 1, indent: int = 0) -> None:
    """Print at most so many lines; what a terminal would obey, not show, becomes a question mark."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in printable(text))
    blank = " " * indent
    for line in textwrap.wrap(
        plain, WIDTH, max_lines=lines, placeholder=" ...", initial_indent=blank, subsequent_indent=blank
    ):
        print(line, flush=True)
