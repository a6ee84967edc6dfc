"""Run one notebook with papermill: the good result lands in its place, a failed one where the user finds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.run.paths import NOTEBOOKS, ROOT
from helpers.run.profile import ProfileError, Run, nearest
from helpers.run.provenance import MADE, read_json, write_json

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter the notebook does not declare, of which papermill itself only warns. Raises `ProfileError`."""
    from papermill import inspect_notebook

    declared = inspect_notebook(str(notebook))
    if not declared:
        raise ProfileError(f"{notebook.name} has no cell tagged 'parameters'")
    for name in parameters:
        if name not in declared:
            raise ProfileError(f"{notebook.name} has no parameter '{name}'{nearest(name, declared)}")


def execute(
    notebook: Path, good: Path, failed: Path, parameters: Mapping[str, Any] | None = None, log: Path = Path(os.devnull)
) -> str:
    """Execute `notebook` into `good`, or into `failed` when a cell raises; never both, never half a file.

    Returns the error, '' where there is none. A good result of an earlier run is removed first, so that what stands
    there is always of this run. The kernel is reached through ipc sockets in a folder of its own, so kernels side by
    side cannot collide on a port. What the notebook's code prints goes to `log`.
    """
    parameters = dict(parameters or {})
    os.environ["PYTHONPATH"] = str(ROOT)  # the kernel imports this checkout's code, whichever one was installed
    check_parameters(notebook, parameters)
    for path in (good, failed, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    good.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    unfinished = good.with_name(f".unfinished-{good.name}")
    try:
        error = _papermill(notebook, unfinished, parameters, log)
        unfinished.replace(failed if error else good)
    finally:
        unfinished.unlink(missing_ok=True)
    return error


def _papermill(notebook: Path, output: Path, parameters: dict[str, Any], log: Path) -> str:
    """The error of the cell that failed, or ''. `output` is written either way."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    # A short name: a socket's path holds 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="nb-") as folder, log.open("w", encoding="utf-8") as stream:
        ipc = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/k"}})
        ipc.NotebookClient.extra_arguments = ["--IPKernelApp.capture_fd_output=False"]  # no start-up lines of C++ code
        try:
            options = {"cwd": str(notebook.parent), "kernel_name": "python3", "progress_bar": False, "config": ipc}
            options |= {"stdout_file": stream, "stderr_file": stream}
            papermill.execute_notebook(str(notebook), str(output), parameters, **options)
        except papermill.PapermillExecutionError as error:
            return ANSI.sub("", str(error)).strip()
        except DeadKernelError as error:
            return f"the kernel died, most often for want of memory: {error}"
    return ""


def run_notebook(name: str, run: Run) -> int:
    """Execute the project's notebook `name` for `run` and note how long it took; 0 where it ended well, else 1."""
    run.record(name).unlink(missing_ok=True)  # an earlier run's record must not stand for a notebook that fails now,
    shutil.rmtree(run.figures / name, ignore_errors=True)  # nor its figures beside those that it makes now
    good, failed, began = run.notebook(name), run.failed(name), time.monotonic()
    error = execute(NOTEBOOKS / f"{name}.ipynb", good, failed, run.parameters(), run.log(name))
    if not error and not run.record(name).is_file():
        good.replace(failed)
        error = "it ended without study.finish(), which its last cell must call"
    elif not error and (hidden := not_shown(good, read_json(run.record(name)))):
        good.replace(failed)
        error = f"made and not shown exactly once: {', '.join(hidden)}"
    write_json(run.timing(name), {"seconds": round(time.monotonic() - began, 1), "error": error})
    return 1 if error else 0


def not_shown(notebook: Path, record: Mapping[str, Any]) -> list[str]:
    """The files of figures and tables that a notebook made, as its record says, and did not show, or showed twice."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [output.get("metadata", {}).get(MADE) for output in outputs if output["output_type"] == "display_data"]
    made = [f"{item['name']}.png" for item in record["figures"]] + [f"{item['name']}.csv" for item in record["tables"]]
    return [file for file in made if shown.count(file) != 1]
