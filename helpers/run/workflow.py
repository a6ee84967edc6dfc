"""Start a run: Snakemake decides what is out of date and runs it; this module starts it and reports what it does."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from helpers.run import paths
from helpers.run.cache import notebook_key, resolve, step_key
from helpers.run.profile import KEYS, Profile, ProfileError, Run, failed_steps, load_profile, nearest, parse_overrides
from helpers.run.provenance import asks_for_gpu, available_cores, read_json, write_json
from helpers.run.steps import left_out, needed, notebook_names, notebook_reads, step_named

SECONDS = paths.ROOT / "data" / "expected_seconds.json"  # of the default profile's steps and notebooks
MOST_JOBS = "16"  # of a cluster at a time, where JOBS= does not say
PIECE = 10_000  # images whose features one job of a cluster computes
REPORT = "helpers.run.report:build_report"  # imported where it is written: a run with nothing to do need not wait
RETRIES = "3"  # of a cluster's job that was lost, pre-empted or killed: it goes on from what it has kept


class ProgressHandler(logging.Handler):
    """Turns Snakemake's events into lines a reader wants: what starts, what is done, how long it took, what is left.

    `expected` are the seconds that steps and notebooks took before, here or where the project was measured: their
    proportions serve for the time left, their scale is taken from what this run has taken so far.
    """

    def __init__(self, expected: dict[str, float] | None = None, run: Run | None = None, cores: int = 0) -> None:
        """`cores`: of this machine, which the run takes; `run`: whose report grows with each notebook."""
        super().__init__()
        self.run, self.cores, self.writer = run, cores, threading.Thread()
        self.names: dict[int, str] = {}
        self.began: dict[int, float] = {}
        self.threads: dict[int, int] = {}
        self.expected, self.started = expected or {}, time.monotonic()
        self.known: set[str] = set()
        self.waiting: set[str] = set()
        self.total = self.done = 0
        self.worked = self.worked_expected = self.alone = 0.0  # alone: of jobs that had all cores
        self.failed: set[str] = set()

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
        found = {rule.removeprefix("notebook_"): n for rule, n in record.stats.items() if rule not in ("all", "total")}
        self.total, self.known, self.waiting = sum(found.values()), set(found), set(found)
        notebooks = sum(rule.startswith("notebook_") for rule in record.stats)
        if self.total:
            self.print(f"{self.total - notebooks} steps and {notebooks} notebooks to run")

    def _job_info(self, record: logging.LogRecord) -> None:
        parts = " ".join(f"{key} {value}" for key, value in (record.wildcards or {}).items())
        name = self.names[record.jobid] = f"{record.rule_name.removeprefix('notebook_')} {parts}".strip()
        if record.rule_name != "all":
            self.total += not self.known & {name, record.rule_name}  # a piece, planned once images are counted
            self.known.add(name)
            self.began[record.jobid], self.threads[record.jobid] = time.monotonic(), getattr(record, "threads", 1)
            self.print(f"  start  {self.names[record.jobid]}")

    def _job_finished(self, record: logging.LogRecord) -> None:
        if record.job_id in self.began:
            name = self.names[record.job_id]
            self.done += 1
            self.failed.discard(name)
            self.waiting.discard(name)
            if name in self.expected:
                took = time.monotonic() - self.began[record.job_id]
                self.worked += took
                self.worked_expected += self.expected[name]
                self.alone += took * (self.threads[record.job_id] == self.cores)
            self.print(f"  done   {self._ended(record.job_id)}   [{self.done} of {self.total}]{self._running()}")

    def _job_error(self, record: logging.LogRecord) -> None:
        if record.jobid in self.began:
            self.failed.add(self.names[record.jobid])
            logs = ", ".join(map(str, getattr(record, "log", None) or []))
            self.print(f"  FAILED {self._ended(record.jobid)}{'   see ' + logs if logs else ''}")

    def _ended(self, job: int) -> str:
        """The name of a job that has ended, and its seconds; a notebook's results are added to the report."""
        name = self.names[job]
        if self.run and name in notebook_names() and self.done < self.total and not self.writer.is_alive():
            self.writer = threading.Thread(target=_add_to_report, args=[self.run], daemon=True)
            self.writer.start()
        return f"{name}  {time.monotonic() - self.began.pop(job):.1f} s"

    def _running(self) -> str:
        left = self.total - self.done - len(self.failed) - len(self.began)
        return f"   running: {', '.join(self.names[j] for j in self.began) or 'nothing'}; {left} waiting{self._left()}"

    def _left(self) -> str:
        """The time left, for a sentence; nothing before a twentieth of the work is done, or where a step is new."""
        elapsed, left = time.monotonic() - self.started, [self.expected.get(name) for name in self.waiting]
        if None in left or not left or self.worked_expected < 0.05 * sum(self.expected.values()):
            return ""
        pace = self.worked / self.worked_expected  # of this machine, against the one that was measured
        running = sum(time.monotonic() - began for began in self.began.values())
        side_by_side = (self.worked - self.alone + running) / max(elapsed - self.alone, 1)
        seconds = max(0.0, sum(left) * pace - running) / max(side_by_side, 1)
        return f"; about {seconds / 60:.0f} min left" if seconds > 90 else f"; about {seconds:.0f} s left"


def split_settings(given: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Sort `KEY=VALUE` words into the run's own settings (PROFILE, ONLY, EXECUTOR ...) and profile overrides.

    Raises `ProfileError` for a word that is neither, with the nearest right name.
    """
    own = {"profile": "phantom", "executor": "local"}
    own |= dict.fromkeys(("only", "jobs", "run", "executor_options", "gpus", "piece"), "")
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
    """Cores that a run takes on this machine, or jobs it has on a cluster: as asked, or as many as there are cores."""
    return _whole("JOBS", text, "cores to use, or on a cluster of jobs at a time") or available_cores()


def _whole(name: str, text: str, what: str) -> int:
    if text and (not text.isdigit() or not int(text)):
        raise ProfileError(f"{name}={text}: give the number of {what}, 1 or more")
    return int(text or 0)


def executor_from(name: str, options: str, jobs: str) -> Namespace:
    """What runs the steps, as words of Snakemake's own command line: this machine, or a cluster by one of its plugins.

    Raises `ProfileError` for a plugin that is not installed, and for options that it does not have.
    """
    if name == "local":
        if options:
            raise ProfileError(f"EXECUTOR_OPTIONS={options}: they are for a cluster, so give EXECUTOR= as well")
        return Namespace(executor=name, cores=jobs_from(jobs))
    from snakemake.cli import get_argument_parser
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    if name == "touch":
        raise ProfileError("EXECUTOR=touch makes files newer and nothing else: what is stale would be shown as new")
    parser, known = get_argument_parser(), ExecutorPluginRegistry().get_registered_plugins()
    if name not in known:
        remedy = f"get it with: pip install snakemake-executor-plugin-{name}"
        raise ProfileError(f"EXECUTOR={name}: Snakemake has none of this name here ({', '.join(known)}); {remedy}")
    if len(sys.executable.split()) > 1:  # which Snakemake does not quote
        raise ProfileError(f"EXECUTOR={name}: a cluster's jobs need an environment without a blank in {sys.executable}")
    words = ["--executor", name, "--jobs", str(jobs_from(jobs)) if jobs else MOST_JOBS, "--latency-wait", "60"]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            return parser.parse_args([*words, "--retries", RETRIES, *shlex.split(options)])
    except (SystemExit, ValueError) as error:
        why = said.getvalue().strip().splitlines()[-1:] or [str(error)]
        raise ProfileError(f"EXECUTOR_OPTIONS={options}: {why[0]}") from None


def reproduce(settings: Sequence[str]) -> int:
    """Bring a run up to date and print its claims; the exit status: 0, or 1 where a notebook failed.

    `settings` are `KEY=VALUE` words. Everything wrong with them is refused before anything is computed.
    """
    own, overrides = split_settings(settings)
    notebooks = wanted_notebooks(own["only"])
    executor = executor_from(own["executor"], own["executor_options"], own["jobs"])
    if executor.executor != "local":
        os.environ["RUN_GPUS"] = str(int(own["gpus"] not in ("", "0")))
        executor.piece = _whole("PIECE", own["piece"], "images of a cluster's job of features") or PIECE
    profile = load_profile(own["profile"], overrides)
    notebooks = _part_of(profile, notebooks, asked=bool(own["only"]))
    run = Run(own["run"] or profile.name)
    lock = FileLock(run.folder / ".lock")
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock.acquire(timeout=0):
            before = run.profile_file.read_bytes() if run.profile_file.is_file() else b""
            profile = run.save_profile(own["profile"], parse_overrides(overrides))
            as_measured = own["profile"] == "phantom" and not overrides
            expected = _expected(run, run.profile_file.read_bytes() == before, as_measured)
            progress = ProgressHandler(expected, run, executor.cores or 0)
            plan(run, notebooks, profile)
            return _bring_up_to_date(run, notebooks, executor, profile, progress)
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
    for name in _steps_of(notebooks):
        write_json(run.key(name), {"key": step_key(name, profile)})
    for name in notebooks:
        write_json(run.key(name), {"key": notebook_key(name, profile)})


def is_up_to_date(run: Run, notebooks: Sequence[str]) -> bool:
    """Whether all that is wanted is there, and older than nothing that it is made from: what Snakemake would find out,
    whose start takes longer than all else that a run with nothing to do does."""
    made = {name: ([run.stage(name)], step_named(name).after) for name in _steps_of(notebooks)}
    made |= {name: ([run.notebook(name), run.record(name)], notebook_reads(name).steps) for name in notebooks}
    for name, (files, before) in made.items():
        read = [run.key(name), *map(run.stage, before)]
        if not all(path.is_file() for path in files + read):
            return False
        if min(path.stat().st_mtime for path in files) < max(path.stat().st_mtime for path in read):
            return False
    return True


def has_report(run: Run) -> bool:
    """Whether the run's report is newer than what the run has left and the code and texts that it is made from."""
    left = [run.folder / name for name in ("keys", "records", "stages", "timings", "failed", "notebooks")]
    made_from = [*left, paths.NOTEBOOKS, paths.PUBLISHED, paths.ROOT / "helpers"]
    newest = max(path.stat().st_mtime for folder in made_from for path in [folder, *folder.rglob("*")] if path.exists())
    written = [run.report, run.report.with_suffix(".txt")]
    return all(path.is_file() and path.stat().st_mtime >= newest for path in written)


def _add_to_report(run: Run) -> None:
    """Write the report while notebooks run: one that starts meanwhile takes its figures away, and the next has them."""
    with contextlib.suppress(OSError):
        resolve(REPORT)(run)


def _steps_of(notebooks: Sequence[str]) -> tuple[str, ...]:
    return needed(tuple(step for name in notebooks for step in notebook_reads(name).steps))


def _expected(run: Run, same_settings: bool, as_measured: bool) -> dict[str, float]:
    """Seconds by step and notebook: as in this run's last start with the same settings, else, for the default profile,
    as `benchmarks/reproduce.py` measured them. Nothing for other settings, which take other times."""
    measured = read_json(SECONDS) if as_measured and SECONDS.is_file() else {}
    left = {path.stem: read_json(path) for path in (run.folder / "timings").glob("*.json")} if same_settings else {}
    return measured | {name: one["seconds"] for name, one in left.items() if one["seconds"] and not one["error"]}


def _bring_up_to_date(
    run: Run, notebooks: list[str], executor: Namespace, profile: Profile, progress: ProgressHandler
) -> int:
    began, config = time.monotonic(), {"run": run.name}
    if executor.executor != "local":
        config |= {"piece": executor.piece, "gpus": int(asks_for_gpu()), "threads": profile.workers}
    if not is_up_to_date(run, notebooks):
        _snakemake(config, [str(_place(run.notebook(name))) for name in notebooks], executor, progress)
    if progress.writer.is_alive():
        progress.writer.join()
    if progress.total or not has_report(run):
        resolve(REPORT)(run)
    if not progress.total:
        progress.print("nothing to do: everything is up to date")
    progress.print(run.report.with_suffix(".txt").read_text(encoding="utf-8"))
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


def _snakemake(config: Mapping[str, Any], targets: list[str], executor: Namespace, progress: ProgressHandler) -> None:
    """Run the Snakefile. Its own lock is off, since a killed run would leave it; `reproduce` holds one instead."""
    from snakemake import logging as snakemake_logging
    from snakemake.api import SnakemakeApi
    from snakemake.scheduling.greedy import SchedulerSettings
    from snakemake.settings import types
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    resources, execution, settings, remote = {}, {"latency_wait": 1}, None, types.RemoteExecutionSettings()
    if executor.executor == "local":
        resources = {"cores": executor.cores}
    else:
        resources = {"nodes": executor.jobs, "default_resources": executor.default_resources}
        resources |= {"overwrite_threads": executor.set_threads, "overwrite_resources": executor.set_resources}
        execution = {"latency_wait": executor.latency_wait, "retries": executor.retries}
        remote = types.RemoteExecutionSettings(seconds_between_status_checks=executor.seconds_between_status_checks)
        settings = ExecutorPluginRegistry().get_plugin(executor.executor).get_settings(executor)
    with SnakemakeApi(types.OutputSettings(skip_plugin_handlers=True, enable_file_logging=False)) as api:
        snakemake_logging.logger.handlers = [progress]
        workflow = api.workflow(
            types.ResourceSettings(**resources),
            types.ConfigSettings(config=config),
            snakefile=paths.ROOT / "Snakefile",
            workdir=paths.ROOT,
        )
        dag = workflow.dag(
            types.DAGSettings(targets=set(targets), force_incomplete=True, rerun_triggers={types.RerunTrigger.MTIME})
        )
        try:
            dag.execute_workflow(
                executor=executor.executor,
                execution_settings=types.ExecutionSettings(keep_going=True, lock=False, **execution),
                scheduling_settings=types.SchedulingSettings(scheduler="greedy"),
                scheduler_settings=SchedulerSettings(omit_prioritize_by_temp_and_input=True),
                executor_settings=settings,
                remote_execution_settings=remote,
            )
        except Exception as error:
            if not progress.failed:  # not a step's failure, which has been shown, but one of the workflow itself
                progress.print(f"the workflow stopped: {error or type(error).__name__}")
                progress.failed.add("the workflow")
