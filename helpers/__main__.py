"""`python -m helpers ...`, which the Makefile and the Snakefile call. `python -m helpers help` lists the calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.run.cache import resolve
from helpers.run.profile import Profile, ProfileError, Run, load_profile
from helpers.run.steps import CoreKeys, studies
from helpers.run.workflow import reproduce, split_settings, wanted_notebooks

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "KERAS_HOME" in os.environ:  # meant from where the user stands; notebooks run in their own folder
    os.environ["KERAS_HOME"] = str(Path(os.environ["KERAS_HOME"]).expanduser().absolute())


def main(words: list[str]) -> int:
    """Returns the exit status: 0 done, 1 something failed, 2 the call was wrong (and nothing was started)."""
    command, *rest = words or ["help"]
    if command not in COMMANDS:
        lines = (f"python -m helpers {f'{name} {given}':29} {text}" for name, (_, given, text) in COMMANDS.items())
        print("\n".join(lines), file=sys.stderr if command != "help" else sys.stdout)
        return 0 if command == "help" else 2
    try:
        return COMMANDS[command][0](*rest) or 0
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _profile_of(words: Sequence[str]) -> tuple[dict[str, str], Profile]:
    """The run's own settings (PROFILE, ONLY ...) among `KEY=VALUE` words, and the profile that the others change."""
    own, overrides = split_settings(words)
    return own, load_profile(own["profile"], overrides)


def _reproduce(*words: str) -> int:
    from helpers.data.check import check_shortly

    own, profile = _profile_of(words)
    check_shortly(profile, wanted_notebooks(own["only"]))
    return reproduce(words)


def _check(*words: str) -> int:
    from helpers.data.check import check

    return check(_profile_of(("PROFILE=paper", *words))[1])


def _data(*words: str) -> int:
    from helpers.data.check import real_places
    from helpers.data.download import fetch_place

    _, profile = _profile_of(words)
    places = [place for found in real_places(profile).values() for place in found]
    if not places:
        print(f"profile {profile.name} makes its own images: nothing to download")
    return max([fetch_place(place, profile.data_dir, places) for place in dict.fromkeys(places)], default=0)


def _dicom(*words: str) -> int:
    from helpers.data.dicom import RADIOGRAPHS, WINDOWS, convert_folder, read_key

    given = {name.lower(): value for name, _, value in (word.partition("=") for word in words)}
    window, burnt_in = given.pop("window", WINDOWS[0]), given.pop("burnt_in", "")
    if set(given) != {"source", "target", "key"} or "" in given.values():
        raise ProfileError("dicom takes SOURCE=folder TARGET=folder KEY=a file kept elsewhere, each once")
    if window not in WINDOWS or burnt_in not in ("", "keep"):
        raise ProfileError(f"dicom takes WINDOW={' or '.join(WINDOWS)} and BURNT_IN=keep, or neither")
    key, target = Path(given["key"]).resolve(), Path(given["target"]).resolve()
    if key.is_relative_to(target):
        raise ProfileError(f"KEY={given['key']} lies in TARGET: with the key beside them, patients can be found again")
    keep = burnt_in == "keep"
    table, failures = convert_folder(Path(given["source"]), target, read_key(key), window=window, burnt_in=keep)
    for row in failures.to_dict("records"):
        print(f"left out: {row['path']}: {row['reason']}", file=sys.stderr)
    radiographs = int(table["modality"].isin(RADIOGRAPHS).sum())
    print(f"{len(table)} pictures in {target}, {radiographs} of them radiographs; {len(failures)} files left out")
    return 0 if len(table) else 1


def _views(*words: str) -> int:
    from helpers.rajkomar.views import classify_views

    return classify_views(words)


def _keys() -> None:
    groups = {"All papers": CoreKeys} | {study.title: study.keys for study in studies().values() if study.paper}
    for title, keys in groups.items():
        print(f"\n{title}")
        for key, field in keys.model_fields.items():
            default = "" if field.is_required() else field.default
            print(f"  {key:28} {default!s:24} {field.description}")


def _of_a_run(function: str) -> Callable[..., int | None]:
    """A command that ends in a run's name, which is imported when it is called."""

    def call(*words: str) -> int | None:
        *names, run = words or ("phantom",)
        status = resolve(function)(*names, Run(run))
        return status if isinstance(status, int) else None

    return call


DICOM = "DICOM radiographs to PNG, without patient data: SOURCE= TARGET= KEY=, WINDOW=stored (minmax), BURNT_IN=keep"
PAIRS, MORE = "KEY=VALUE ...", "[KEY=VALUE ...]"
COMMANDS = {  # each with its words, and what it does
    "reproduce": (_reproduce, MORE, "bring a run up to date: PROFILE= ONLY= JOBS= RUN= EXECUTOR= and any profile key"),
    "data": (_data, MORE, "download and unpack the real data sets of a profile"),
    "check": (_check, MORE, "what lies in a data folder: DATA_DIR= PROFILE="),
    "keys": (_keys, "", "the profile's keys by paper, their defaults and what they mean"),
    "step": (_of_a_run("helpers.runner:run_step"), "NAME RUN", "one step of a run (used by the Snakefile)"),
    "piece": (_of_a_run("helpers.runner:compute_piece"), "NAME K OF RUN", "one piece of a step's features (likewise)"),
    "notebook": (_of_a_run("helpers.run.notebooks:run_notebook"), "NAME RUN", "one notebook of a run (likewise)"),
    "dicom": (_dicom, PAIRS, DICOM),
    "views": (_views, PAIRS, "frontal or lateral, for each file of a folder: SOURCE= TARGET= RUN="),
    "report": (_of_a_run("helpers.run.report:build_report"), "RUN", "the report of a run, from what it has so far"),
    "compare": (_of_a_run("helpers.run.compare:compare_with_reference"), "RUN", "figures/RUN beside figures/reference"),
    "reference": (_of_a_run("helpers.run.compare:make_reference"), "RUN", "make figures/RUN the new reference"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
