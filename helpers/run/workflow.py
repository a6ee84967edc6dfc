"""Start a run: Snakemake decides what is out of date and runs it; this module starts it and reports what it does."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from helpers.run import paths
from helpers.run.cache import notebook_key, step_key
from helpers.run.profile import KEYS, Profile, ProfileError, Run, failed_steps, load_profile, nearest, parse_overrides
from helpers.run.provenance import available_cores, read_json, write_json
from helpers.run.steps import left_out, needed, notebook_names, notebook_reads


class ProgressHandler(logging.Handler):
    """Turns Snakemake's events into lines a reader wants: what starts, what is done, how long it took, what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        self.began: dict[int, float] = {}
        self.total = self.done = self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", "") or "")
        handler = getattr(self, f"_{event}", None)
        if handler:
            handler(record)
        elif record.levelno >= logging.ERROR and not event:
            self.print(record.getMessage())

    def print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _run_info(self, record: logging.LogRecord) -> None:
        counts = {rule: n for rule, n in record.stats.items() if rule not in ("all", "total")}
        self.total = sum(counts.values())
        if self.total:
            self.print(" and ".join(f"{n} {rule}{'s' if n > 1 else ''}" for rule, n in counts.items()) + " to run")

    def _job_info(self, record: logging.LogRecord) -> None:
        self.names[record.jobid] = record.wildcards.get("name") or record.rule_name
        if record.rule_name == "all":
            return
        self.began[record.jobid] = time.monotonic()
        self.print(f"  start  {self.names[record.jobid]}")

    def _job_finished(self, record: logging.LogRecord) -> None:
        if record.job_id in self.began:
            self.done += 1
            self.print(f"  done   {self._timed(record.job_id)}   [{self.done} of {self.total}]{self._running()}")

    def _job_error(self, record: logging.LogRecord) -> None:
        if record.jobid in self.began:
            self.failed += 1
            logs = ", ".join(map(str, getattr(record, "log", None) or []))
            self.print(f"  FAILED {self._timed(record.jobid)}{'   see ' + logs if logs else ''}")

    def _timed(self, job: int) -> str:
        return f"{self.names[job]}  {time.monotonic() - self.began.pop(job):.1f} s"

    def _running(self) -> str:
        left = self.total - self.done - self.failed - len(self.began)
        return f"   running: {', '.join(self.names[j] for j in self.began) or 'nothing'}; {left} waiting"


def split_settings(given: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Sort `KEY=VALUE` words into the run's own settings (PROFILE, ONLY, JOBS, RUN) and profile overrides.

    Raises `ProfileError` for a word that is neither, with the nearest right name.
    """
    own = {"profile": "phantom", "only": "", "jobs": "", "run": ""}
    overrides = []
    for word in given:
        key = word.split("=", 1)[0].strip().lower().replace("-", "_")
        if "=" in word and key in own:
            own[key] = word.split("=", 1)[1]
        elif "=" in word and key not in KEYS:
            known = [k.upper() for k in (*own, *KEYS) if k != "name"]
            raise ProfileError(f"there is no setting '{word.split('=', 1)[0]}'{nearest(key.upper(), known)}")
        else:
            parse_overrides([word])
            overrides.append(word)
    return own, overrides


def wanted_notebooks(only: str) -> list[str]:
    """The notebooks named in `only` (words or a comma list; '02' is enough for 02_multiclass_roc), or all."""
    known = notebook_names()
    chosen = []
    for word in only.replace(",", " ").split():
        word = word.removesuffix(".ipynb").removeprefix("notebooks/")
        match = [name for name in known if name == word or name.split("_")[0] == word]
        if not match:
            raise ProfileError(f"there is no notebook '{word}'{nearest(word, known)}")
        chosen += match
    return chosen or known


def jobs_from(text: str) -> int:
    """How many steps run side by side: as asked, or as many as there are cores."""
    if text and (not text.isdigit() or not int(text)):
        raise ProfileError(f"JOBS={text}: give the number of steps to run side by side, 1 or more")
    return int(text) if text else available_cores()


def reproduce(settings: Sequence[str]) -> int:
    """Bring a run up to date and print its claims; the exit status: 0, or 1 where a notebook failed.

    `settings` are `KEY=VALUE` words. Everything wrong with them is refused before anything is computed.
    """
    own, overrides = split_settings(settings)
    notebooks, jobs = wanted_notebooks(own["only"]), jobs_from(own["jobs"])
    profile = load_profile(own["profile"], overrides)
    notebooks = _part_of(profile, notebooks, asked=bool(own["only"]))
    run = Run(own["run"] or profile.name)
    lock = FileLock(run.folder / ".lock")
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(timeout=0):
            profile = run.save_profile(own["profile"], parse_overrides(overrides))
            plan(run, notebooks, profile)
            return _bring_up_to_date(run, notebooks, jobs)
    except Timeout:
        raise ProfileError(
            f"another `make reproduce` is at work in {run.folder}; wait for it, or give RUN=another_name"
        ) from None


def _part_of(profile: Profile, notebooks: list[str], asked: bool) -> list[str]:
    """These notebooks without those that the profile leaves out, which are named; `ProfileError` where all were asked
    for by name."""
    out = left_out(profile)
    if missing := [f"{name} ({out[name]})" for name in notebooks if name in out]:
        text = f"not part of profile {profile.name}: {', '.join(missing)}"
        if asked:
            raise ProfileError(f"{text}. Other images for it can be named, or another PROFILE=")
        print(text, file=sys.stderr, flush=True)
    return [name for name in notebooks if name not in out]


def plan(run: Run, notebooks: Sequence[str], profile: Profile) -> None:
    """Write the key of every step and notebook that is wanted: Snakemake makes again whatever is older than its key."""
    steps = needed(tuple(step for name in notebooks for step in notebook_reads(name).steps))
    for name in steps:
        write_json(run.key(name), {"key": step_key(name, profile)})
    for name in notebooks:
        write_json(run.key(name), {"key": notebook_key(name, profile)})


def _bring_up_to_date(run: Run, notebooks: list[str], jobs: int) -> int:
    from helpers.run.report import build_report, summary

    began = time.monotonic()
    progress = _snakemake({"run": run.name}, [str(_place(run.notebook(name))) for name in notebooks], jobs)
    build_report(run)
    if not progress.total:
        progress.print("nothing to do: everything is up to date")
    progress.print(summary(run))
    for name, error in failed_steps(run).items():
        progress.print(f"FAILED  step {name}: {error.splitlines()[0]}")
    failed = [name for name in notebooks if run.failed(name).is_file()]
    for name in failed:
        progress.print(f"FAILED  {name}: {_last_line(run, name)}\n        see {_place(run.failed(name))}")
    progress.print(f"report   {_place(run.report)}\nfigures  {_place(run.figures)}/")
    progress.print(f"took     {time.monotonic() - began:.0f} s")
    return 1 if failed or progress.failed else 0


def _place(path: Path) -> Path:
    return path.relative_to(paths.ROOT)


def _last_line(run: Run, name: str) -> str:
    lines = read_json(run.timing(name))["error"].splitlines() if run.timing(name).is_file() else []
    return next((line for line in reversed(lines) if line.strip()), "no error was kept")


def _snakemake(config: Mapping[str, Any], targets: list[str], jobs: int) -> ProgressHandler:
    """Run the Snakefile. Its own lock is off, since a killed run would leave it; `reproduce` holds one instead."""
    from snakemake import logging as snakemake_logging
    from snakemake.api import SnakemakeApi
    from snakemake.scheduling.greedy import SchedulerSettings
    from snakemake.settings import types

    progress = ProgressHandler()
    with SnakemakeApi(types.OutputSettings(skip_plugin_handlers=True, enable_file_logging=False)) as api:
        snakemake_logging.logger.handlers = [progress]
        workflow = api.workflow(
            types.ResourceSettings(cores=jobs),
            types.ConfigSettings(config=config),
            snakefile=paths.ROOT / "Snakefile",
            workdir=paths.ROOT,
        )
        dag = workflow.dag(
            types.DAGSettings(targets=set(targets), force_incomplete=True, rerun_triggers={types.RerunTrigger.MTIME})
        )
        try:
            dag.execute_workflow(
                executor="local",
                execution_settings=types.ExecutionSettings(keep_going=True, lock=False, latency_wait=1),
                scheduling_settings=types.SchedulingSettings(scheduler="greedy"),
                scheduler_settings=SchedulerSettings(),
            )
        except Exception as error:
            if not progress.failed:  # not a step's failure, which has been shown, but one of the workflow itself
                progress.print(f"the workflow stopped: {error or type(error).__name__}")
                progress.failed += 1
    return progress
