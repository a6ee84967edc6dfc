"""What lies in a data folder: `make check DATA_DIR=...` on one screen, and a line per data set before a run on it.

Each data set is looked for and read by its own loader, so that nothing is found here that a run would not find. Every
image is opened once; what was found is kept (see `scan`), so that the run that follows does not open it again.
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
    places, data_dir = real_places(profile), profile.data_dir
    _print(f"{data_dir} (profile {profile.name}; {len(places)} data sets are looked for)")
    states, roots = [], []
    for name, where in places.items():
        found = [root for place in where for root in place.all_in(data_dir)]
        roots += found
        _print(f"{name} (notebooks {' '.join(_readers(name))}): {_sources(where, data_dir)}")
        source, text, error = _read(name, profile)
        states.append("missing" if isinstance(error, FileNotFoundError) else "bad" if error else "good")
        if error:
            _print(f"{'NOT THERE' if states[-1] == 'missing' else 'NOT USABLE'}: {error}", lines=4, indent=2)
            continue
        _print(f"{source.description[1]} {_patients(source.catalogue, where)}", lines=2, indent=2)
        _print(_set_aside(source.catalogue), indent=2)
        _print("; ".join([*_shared(source.catalogue), *text]), indent=2)
    _print(_others(data_dir, roots, profile), lines=2)
    return int("bad" in states or "good" not in states)


def check_shortly(profile: Profile, notebooks: Iterable[str]) -> None:
    """Print one line per data set that these notebooks read: what was found, or what is missing."""
    wanted, places = set(notebooks), real_places(profile)
    for name, where in places.items():
        if wanted & {notebook for notebook in all_notebooks() if name in _data_of(notebook)}:
            source, _, error = _read(name, profile)
            if error:
                _print(f"{name}: {error}", lines=3)
            else:
                size = f"{len(source.catalogue):,} images, {len(source.catalogue.excluded):,} set aside"
                _print(f"{name}: {_sources(where, profile.data_dir)}: {size}")


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


def _readers(name: str) -> list[str]:
    return [notebook[:2] for notebook in all_notebooks() if name in _data_of(notebook)]


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
    """How many files are not used, or absent, by reason, each with one of them."""
    if catalogue.excluded.empty:
        return "set aside: nothing"
    reasons = catalogue.excluded["reason"].astype(str).str.split(":").str[0]
    groups = catalogue.excluded["path"].groupby(reasons).agg(["size", "first"]).sort_values("size", ascending=False)
    named = [f"{row['size']:,} {reason} ({row['first']})" for reason, row in groups.head(NAMED).iterrows()]
    more = [f"{len(groups) - NAMED} more reasons"] if len(groups) > NAMED else []
    return f"set aside: {', '.join([*named, *more])}"


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


def _others(data_dir: Path, roots: list[Path], profile: Profile) -> str:
    """What lies in the folder and is none of these."""
    also = [path for reads in all_notebooks().values() if reads.folders for path in resolve(reads.folders)(profile)]
    known = {path.relative_to(data_dir).parts[0] for path in [*roots, *also] if path != data_dir}
    inside = os.scandir(data_dir) if data_dir.is_dir() else []
    names = sorted(entry.name for entry in inside if entry.name not in known and not is_stray(entry.name))
    if not names or data_dir in roots:
        return ""
    more = f" and {len(names) - 2 * NAMED:,} more" if len(names) > 2 * NAMED else ""
    return f"none of these: {', '.join(names[: 2 * NAMED])}{more}"


def _print(text: str, lines: int = 1, indent: int = 0) -> None:
    """Print at most so many lines; what a terminal would obey, not show, becomes a question mark."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in printable(text))
    blank = " " * indent
    for line in textwrap.wrap(
        plain, WIDTH, max_lines=lines, placeholder=" ...", initial_indent=blank, subsequent_indent=blank
    ):
        print(line, flush=True)
