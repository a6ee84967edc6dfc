"""The one key: everything that is kept on disk lies under a digest of all that made it.

A key holds the settings that the maker reads, the keys of what it reads, the content of the data and of every file that
a setting names, the versions of the packages that can change a number, and the maker's own code: the modules of
`helpers` that it imports, directly or not, with comments and docstrings left out. Nothing has to be raised by hand, and
Snakemake, a step, and a notebook that is opened alone find the same keys, because all of them call `step_key`.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.run import paths
from helpers.run.profile import Profile, Settings, keys_matching
from helpers.run.provenance import asks_for_gpu, digest_of, read_json, versions, write_json
from helpers.run.steps import Step, data_function, data_set, needed, notebook_reads, paper_of, step_named

NOTEBOOK_KEYS = ("seed", "split", "backbone", "weights", "image_size", "engine", "precision")


# These decide where a result lies and when it is made, never what it is, so that their code is part of no key.
BOOKKEEPING = {"helpers.runner"} | {
    f"helpers.run.{name}" for name in ("cache", "notebooks", "paths", "profile", "provenance", "steps")
}
NO_NUMBERS = ("python", "papermill", "snakemake", "seaborn")  # versions that change no result


def resolve(name: str) -> Callable[..., Any]:
    """The function that a STUDY names as "package.module:function"."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def make_key(
    makers: str | Iterable[str],
    settings: Mapping[str, Any] | None = None,
    inputs: Iterable[Any] = (),
    files: Iterable[Path] = (),
) -> str:
    """16 hex digits that change with anything a result depends on.

    `makers` are modules ("helpers.model.head") or functions in them ("helpers.model.head:train_head"), `settings`
    what they read, `inputs` keys or digests of what they read, `files` further files by content (a missing one counts).
    """
    modules = [makers] if isinstance(makers, str) else list(makers)
    parts = {
        "code": code_digest(*(name.split(":")[0] for name in modules)),
        "settings": _with_files(settings or {}),
        "inputs": list(inputs),
        "files": {path.name: file_digest(path) for path in sorted(files)},
        "versions": {name: version for name, version in versions().items() if name not in NO_NUMBERS},
    }
    return digest_of(parts)


@functools.cache
def step_key(name: str, profile: Profile) -> str:
    """The key of one step of a run, and with it of all that the step reads.

    It is found once in a process, which also runs the code that it read at first, whatever is edited meanwhile.
    """
    step = step_named(name)
    inputs: list[Any] = [name, {before: step_key(before, profile) for before in step.after}]
    makers = [step.maker]
    if step.kind == "data":
        makers = [data_function("load", step.data)]
        places = resolve(data_function("places", step.data))(profile)
        inputs.append(fingerprint(path for place in places for path in place.read_from(profile.data_dir)))
    if step.folders:
        inputs.append(fingerprint(resolve(step.folders)(profile)))
    if step.kind == "experiment":
        inputs.append({"gpu": asks_for_gpu()})
    settings = settings_of_step(step, profile).values()
    return make_key(makers, settings, [*inputs, *weights_digests(settings)])


def notebook_key(name: str, profile: Profile) -> str:
    """The key of a notebook: its code and prose, the modules it imports, its steps, settings and published claims."""
    reads = notebook_reads(name)
    cells = json.loads((paths.NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    steps = {step: step_key(step, profile) for step in reads.steps}
    inputs = [name, ["".join(cell["source"]) for cell in cells], steps]
    inputs += [fingerprint(resolve(reads.folders)(profile)) if reads.folders else ""]
    own = [f"data/published/{paper_of(reads.data).paper}*"] if reads.data else []
    files = sorted(one for at in ("data/published/labels.toml", *reads.files, *own) for one in paths.ROOT.glob(at))
    return make_key(_modules(_imports(ast.parse(code))), settings_of_notebook(name, profile).values(), inputs, files)


def settings_of_step(step: Step, profile: Profile) -> Settings:
    """The part of the profile that a step may read: what its STUDY names, and what its data sets are made from."""
    declared = [step.keys] if step.kind != "data" else []
    names = {step.data, *(step_named(before).data for before in step.after)} - {""}
    declared += [data_set(name).keys for name in names]
    return Settings(
        profile, keys_matching(key for keys in declared for key in keys), step.maker or f"the data set {step.data}"
    )


def settings_of_notebook(name: str, profile: Profile) -> Settings:
    """The part of the profile that a notebook may read: some of the core's keys, its own paper's, and its claims'."""
    reads = notebook_reads(name)
    declared = [NOTEBOOK_KEYS, reads.keys, _claimed_keys().get(name, set())]
    if reads.data:
        sources = {reads.data, *(step_named(step).data for step in needed(reads.steps))}
        declared += [paper_of(reads.data).keys.model_fields, *(data_set(source).keys for source in sources)]
    return Settings(profile, keys_matching(key for keys in declared for key in keys), f"notebook {name}")


@functools.cache
def _claimed_keys() -> dict[str, set[str]]:
    """The profile's keys that hold a published setting, by the notebook that claims it."""
    found: dict[str, set[str]] = {}
    for path in paths.PUBLISHED.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("key") and row.get("notebook"):
                    found.setdefault(row["notebook"], set()).add(row["key"])
    return found


def fingerprint(folders: Iterable[Path]) -> str:
    """A digest of what lies in these files and folders; '' of none. Only what changed since last time is read."""
    folders = list(folders)
    return resolve("helpers.data.scan:fingerprint")(folders, paths.CACHE) if folders else ""


# --- code -----------------------------------------------------------------------------------------------------------


def code_digest(*modules: str) -> str:
    """A digest of these modules and all modules of `helpers` that they import, directly or not.

    Comments, docstrings and layout do not count. A package's `__init__` counts where it is imported by name, so that a
    STUDY, which lists everything of a paper, is not part of each of that paper's keys.
    """
    return digest_of({name: _read_module(name)["digest"] for name in sorted(modules_behind(*modules))})


def modules_behind(*modules: str) -> set[str]:
    """The given modules of `helpers` and those that they import, directly or not, lazily or not.

    Not those of `BOOKKEEPING`, nor those behind them alone: what `helpers.runner` makes for a notebook has its own key.
    """
    found: set[str] = set()
    waiting = [name for name in modules if module_file(name)]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in BOOKKEEPING:
            found.add(name)
            waiting += imports_of(name)
    return found


def imports_of(name: str) -> set[str]:
    """The modules of `helpers` that a module imports itself, anywhere in it."""
    return _modules(_read_module(name)["imports"])


@functools.cache
def module_file(name: str) -> Path | None:
    """Where a module of `helpers` lies in this checkout; None for one of another package."""
    if name.split(".")[0] != "helpers":
        return None
    place = paths.ROOT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@functools.cache
def _read_module(name: str) -> dict[str, Any]:
    """The digest of one module's code and what it imports, remembered by the file's size and time."""
    file = module_file(name)
    return _remembered("modules", file, lambda: _parse_module(file))


def _parse_module(file: Path) -> dict[str, Any]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
    return {"digest": digest, "imports": _imports(tree)}


def _imports(tree: ast.Module) -> list[tuple[str, list[str]]]:
    """What a piece of code imports from `helpers`, anywhere in it: modules, and the names that it takes from each."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, [alias.name for alias in node.names]))
    return [(module, names) for module, names in found if module.split(".")[0] == "helpers"]


def _modules(imports: Iterable[tuple[str, list[str]]]) -> set[str]:
    """The modules that these imports mean: a name taken from a package may be a module itself."""
    found = set()
    for module, names in imports:
        inner = [f"{module}.{name}" for name in names if module_file(f"{module}.{name}")]
        found |= {*inner, module} if len(inner) < len(names) or not names else set(inner)
    return {name for name in found if module_file(name)}


# --- files ----------------------------------------------------------------------------------------------------------


def file_digest(path: Path, kind: str = "sha256") -> str:
    """A file's digest, remembered by size and time in data/cache/; 'missing' where there is none."""
    return _remembered(kind, path, lambda: read_digest(path, kind)) if path.is_file() else "missing"


def read_digest(path: Path, kind: str = "sha256") -> str:
    """A file's digest, read from the disk in any case, a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _remembered(kind: str, path: Path, make: Callable[[], Any]) -> Any:
    """What `make` finds in a file, kept in data/cache/ until the file's size or time changes."""
    status, store = path.stat(), paths.CACHE / "digests" / f"{kind}-{digest_of(str(path.resolve()))}.json"
    stamp = [status.st_size, status.st_mtime_ns]
    if store.is_file() and (known := read_json(store))["stamp"] == stamp:
        return known["found"]
    found = make()
    write_json(store, {"stamp": stamp, "found": found})
    return found


def _with_files(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings; of one that names a file (WEIGHTS=, READERS_FILE=, MARKS_FILE=), the file's content instead."""
    return {
        key: file_digest(Path(value)) if isinstance(value, str) and Path(value).is_absolute() else value
        for key, value in settings.items()
    }


def weights_digests(settings: Mapping[str, Any]) -> list[str]:
    """Digests of the published ImageNet weights that these settings name, where KERAS_HOME holds them.

    A file that has not been downloaded yet counts as the published one, and so does the file that Keras then brings
    (`record_download`), so that the first run with new weights is not repeated.
    """
    backbones = {str(value) for key, value in settings.items() if key.split("_")[-1] == "backbone" and value}
    known = read_json(_downloads()) if _downloads().is_file() else {}
    found = [file for name in backbones for file in weight_files(name)]
    return sorted({file_digest(file) for file in found} - set(known.values()))


def weight_files(backbone: str) -> list[Path]:
    """The files of Keras's cache that hold weights of this architecture."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    word = re.sub("[^a-z0-9]", "", backbone.lower())
    return sorted(file for file in folder.glob("*") if re.sub("[^a-z0-9]", "", file.name.lower()).startswith(word))


def record_download(file: Path) -> None:
    """Note that Keras has just downloaded this file of weights: it is the published one."""
    known = read_json(_downloads()) if _downloads().is_file() else {}
    write_json(_downloads(), known | {file.name: file_digest(file)})


def _downloads() -> Path:
    return paths.CACHE / "downloaded_weights.json"
