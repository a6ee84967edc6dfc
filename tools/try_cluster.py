"""Try the workflow on a cluster: a Slurm of one node is started here, and a job of a small run is killed on the way.

The tables must be those of a run without a cluster, to the byte, and the report must lead to the log of every job. Both
runs are made side by side in copies of this checkout in a temporary folder. Slurm and munge listen on loopback
addresses alone, keep everything in that folder, and are stopped at the end, however it comes. `make test-cluster` calls
this; it takes root, and Debian's or Ubuntu's packages slurm-wlm and munge. The exit status is 0 where all is well, 1
where it is not, and 2 where it cannot be tried here.
"""

import contextlib
import ctypes
import filecmp
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("helpers", "notebooks", "profiles", "data", "Snakefile", "pyproject.toml")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
LIMIT = 600  # seconds for everything; 266 were measured, with other work beside it
SETTINGS = ["ONLY=02", "RUN=small", "WORKERS=1", "PHANTOM_OCT_TRAIN=120", "PHANTOM_OCT_TEST_PER_CLASS=6"]
SETTINGS += ["IMAGE_SIZE=64", "HEAD_STEPS=40", "LIMITED_PER_CLASS=4", "VALIDATION_FRACTION=0.3"]
# The plugin asks after its jobs FIRST_LOOK seconds after one has ended, then 10 seconds later than the time before.
FIRST_LOOK = 12
OPTIONS = f"--slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks {FIRST_LOOK} "
OPTIONS += "--latency-wait 10 --default-resources slurm_partition=main"
KILLED = "oct_features_piece"
CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=32000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NEW_NAME = 0x04000000  # CLONE_NEWUTS: a name of the machine of one's own


class Failed(Exception):  # noqa: N818 - it says what was found
    """The try did not go as it must; the message says how."""


def main() -> int:
    """0 where both runs ended well, the killed job was sent again, and all tables are equal."""
    signal.signal(signal.SIGALRM, lambda *_: stop(f"it took longer than {LIMIT} s"))
    signal.signal(signal.SIGTERM, lambda *_: stop("it was ended from outside"))
    try:
        host = host_on_loopback()
        signal.alarm(LIMIT)
        with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
            with started(Path(folder), host) as environment:
                print(compare_runs(Path(folder), environment))
    except Failed as why:
        print(f"error: {why}", file=sys.stderr)
        return 1
    return 0


def stop(why: str) -> None:
    raise Failed(why)


def host_on_loopback() -> str:
    """The name under which Slurm runs here: the machine's where that means 127.0.0.1, else localhost, which is then the
    machine's name for this process and what it starts. Ends with 2 where there can be no Slurm."""
    blank = re.search(r"\s", sys.executable)
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    why = f"{', '.join(missing)} missing: apt-get install --no-install-recommends slurm-wlm munge" if missing else ""
    why = "the daemons of a Slurm of one node are started by root" if os.geteuid() else why
    why = f"{sys.executable}: Snakemake's jobs on a cluster do not survive a blank in this path" if blank else why
    name = socket.gethostname().split(".")[0]
    with contextlib.suppress(OSError):
        if not why and socket.gethostbyname(name).startswith("127."):
            return name
    if not why and ctypes.CDLL(None).unshare(NEW_NAME):
        why = f"{name}, this machine's name, must mean 127.0.0.1: add it to that line of /etc/hosts"
    if why:
        print(f"error: {why}", file=sys.stderr)
        raise SystemExit(2)
    socket.sethostname("localhost")
    return "localhost"


def compare_runs(folder: Path, environment: dict[str, str]) -> str:
    """A sentence of what is equal. Raises `Failed` for what is not."""
    alone, clustered = folder / "alone", folder / "clustered"
    more = ("EXECUTOR=slurm", f"EXECUTOR_OPTIONS={OPTIONS}", "PIECE=72", "JOBS=2")
    with run_in(alone, dict(os.environ), "JOBS=1") as one, run_in(clustered, environment, *more) as other:
        kill_first(KILLED, other, environment)
        for place, process in ((clustered, other), (alone, one)):
            if process.wait():
                raise Failed(f"this run ended with an error:\n{said_in(place)[-6000:]}")
    if not re.search(rf"FAILED ({KILLED} \S+ . \S+ .)  .*start  \1\n.*done   \1  ", said_in(clustered), re.DOTALL):
        raise Failed(f"the killed job of {KILLED} was not sent again:\n{said_in(clustered)[-6000:]}")
    if unlinked := logs_astray(clustered / "checkout/runs/small"):
        raise Failed(f"logs that are not linked in the report, or links without a log: {', '.join(unlinked)}")
    tables = equal_tables(*(place / "checkout/figures/small" for place in (alone, clustered)))
    return f"{tables} tables are the same by Slurm, with a job killed on the way, and without"


@contextlib.contextmanager
def started(folder: Path, host: str) -> Iterator[dict[str, str]]:
    """A Slurm whose every file lies in `folder`; gives the environment in which its commands find it."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    words = {"host": host, "ports": free_ports(2), "cores": os.cpu_count()}
    configuration.write_text(CONFIGURATION.format(folder=folder, **words))
    # The plugin keeps SLURM_CONF from the jobs that it starts, so that they get an srun that knows the place.
    (folder / "bin").mkdir()
    (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    (folder / "bin/srun").chmod(0o755)
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"SLURM_CONF": str(configuration), "PATH": path}
    munge = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "log", "pid", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-i", "-f", str(configuration)],
        ["slurmd", "-D", "-f", str(configuration)],
    ]
    with contextlib.ExitStack() as stack:
        for words in daemons:
            output = stack.enter_context((folder / f"{words[0]}.out").open("w"))
            daemon = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
            stack.callback(end, daemon)
            time.sleep(0.5)
        stack.callback(cancel_jobs, environment)
        wait_for_node(environment, folder)
        yield environment


def end(process: subprocess.Popen) -> None:
    """Ask a process to end, and make it after ten seconds."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def slurm(environment: dict[str, str], *words: str) -> str:
    """What a command of Slurm prints; nothing where it fails or does not answer."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20).stdout.strip()
    return ""


def cancel_jobs(environment: dict[str, str]) -> None:
    """Leave no job behind; after a good run there is none."""
    for _ in range(20):
        if not (jobs := slurm(environment, "squeue", "-h", "-o", "%i").split()):
            return
        slurm(environment, "scancel", *jobs)
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nothing listens."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in opened]


def wait_for_node(environment: dict[str, str], folder: Path) -> None:
    """Return when the node takes jobs. Raises `Failed` after a minute, with what the daemons wrote."""
    for _ in range(120):
        if slurm(environment, "sinfo", "-h", "-o", "%T") == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-1500:] for path in sorted(folder.glob("*.out")) + sorted(folder.glob("*.log")))
    raise Failed(f"Slurm's node did not become idle:\n{logs}")


def copy_parts(place: Path, parts: Iterable[str]) -> None:
    """Copy some files and folders of this checkout, without caches and downloads."""
    for part in parts:
        source, target = ROOT / part, place / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cache", "raw"))
        else:
            shutil.copy2(source, target)


@contextlib.contextmanager
def run_in(folder: Path, environment: dict[str, str], *more: str) -> Iterator[subprocess.Popen]:
    """The small run, at work in a fresh copy of this checkout beside which its output is kept; ended at the latest when
    the block is left."""
    place = folder / "checkout"
    copy_parts(place, PARTS)
    words = [sys.executable, "-m", "helpers", "reproduce", *SETTINGS, *more]
    given = environment | {"PYTHONPATH": str(place)}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(words, cwd=place, env=given, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            end(process)


def said_in(folder: Path) -> str:
    """What the run in this folder has printed."""
    return (folder / "output").read_text()


def kill_first(rule: str, run: subprocess.Popen, environment: dict[str, str]) -> None:
    """Kill the first job of this rule once it has run for a moment, or return when the run has ended without one."""
    while run.poll() is None:
        found = slurm(environment, "squeue", "-h", "-o", "%i %T %k").splitlines()
        if jobs := [line.split()[0] for line in found if " RUNNING " in line and rule in line]:
            time.sleep(1)
            slurm(environment, "scancel", jobs[0])
            print(f"killed job {jobs[0]}, of {rule}", flush=True)
            return
        time.sleep(0.5)


def logs_astray(run: Path) -> list[str]:
    """Logs of jobs that the report of a run does not link, and links to logs that are not there."""
    linked = set(re.findall(r'href="logs/([^"]+)"', (run / "report.html").read_text()))
    return sorted(linked ^ {path.name for path in (run / "logs").glob("*.stderr.log")})


def equal_tables(one: Path, other: Path) -> int:
    """How many tables both folders hold. Raises `Failed` where one is missing, or differs."""
    tables = [sorted(path.relative_to(place) for path in place.rglob("*.csv")) for place in (one, other)]
    differing = [path for path in tables[0] if path in tables[1] and not filecmp.cmp(one / path, other / path, False)]
    differing += sorted(set(tables[0]) ^ set(tables[1]))
    if differing or not tables[0]:
        raise Failed(f"tables differ: {', '.join(map(str, differing)) or 'there are none'}")
    return len(tables[0])


if __name__ == "__main__":
    sys.exit(main())
