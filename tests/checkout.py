"""A copy of this checkout in a folder of its own, whose name holds a blank, and what its code says there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat

from tools.try_cluster import copy_parts

PARTS = ("helpers", "notebooks", "profiles", "data/published", "Snakefile", "Makefile", "pyproject.toml")
KEYS = """
import json, sys
from helpers.run.cache import notebook_key, step_key
from helpers.run.profile import load_profile
from helpers.run.steps import all_notebooks, all_steps
profile = load_profile("phantom", sys.argv[1:])
keys = {name: step_key(name, profile) for name in all_steps()}
print(json.dumps(keys | {name: notebook_key(name, profile) for name in all_notebooks()}))
"""


def write_notebook(path: Path, code: str, parameters: str = "x = 1") -> Path:
    """A notebook of two code cells, the first of them tagged as its parameters; without parameters, of one."""
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def copy_checkout(folder: Path) -> Path:
    """A copy of the code, without runs, figures and caches."""
    place = folder / "a checkout"
    copy_parts(place, (*PARTS, "requirements.lock"))
    return place


def run_python(place: Path, *words: str, cwd: str = ".", **environment: str) -> subprocess.CompletedProcess:
    """Python in a checkout, with that checkout's code, as `make` starts it."""
    given = os.environ | {"PYTHONPATH": str(place)} | environment
    return subprocess.run([sys.executable, *words], cwd=place / cwd, env=given, capture_output=True, text=True)


def keys_of(place: Path, *overrides: str, cwd: str = ".") -> dict[str, str]:
    """The key of every step and notebook, as the checkout's code finds them."""
    done = run_python(place, "-c", KEYS, *overrides, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edit(place: Path, file: str, old: str, new: str) -> None:
    """Replace a text that must be there, once."""
    path = place / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} holds '{old}' {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The names whose keys differ."""
    return {name for name in before if before[name] != after[name]}
