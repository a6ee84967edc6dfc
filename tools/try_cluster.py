"""Try the workflow on a cluster: a Slurm of one node is started here, and a job of a small run is killed on the way.

The tables must be those of a run without a cluster, to the byte. Both runs are made in copies of this checkout in a
temporary folder. Slurm and munge listen on loopback addresses alone, keep everything in that folder, and are stopped at
the end. `make test-cluster` calls this; it takes root, and Debian's or Ubuntu's packages slurm-wlm and munge.
"""

import contextlib
import filecmp
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("helpers", "notebooks", "profiles", "data", "Snakefile", "pyproject.toml")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
SETTINGS = ["ONLY=02", "RUN=small", "WORKERS=1", "PHANTOM_OCT_TRAIN=120", "PHANTOM_OCT_TEST_PER_CLASS=6"]
SETTINGS += ["IMAGE_SIZE=64", "HEAD_STEPS=40", "LIMITED_PER_CLASS=4", "VALIDATION_FRACTION=0.3"]
OPTIONS = "--slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks 2 "
OPTIONS += "--seconds-between-status-checks 2 --latency-wait 10 --default-resources slurm_partition=main"
KILLED = "oct_features_piece"
CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
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
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=32000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    """0 where both runs ended well, the killed job was sent again, and all tables are equal."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        print(f"{', '.join(missing)} missing: apt-get install --no-install-recommends slurm-wlm munge", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("the daemons of a Slurm of one node are started by root", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, started(Path(folder)) as environment:
        alone, clustered = Path(folder) / "alone", Path(folder) / "clustered"
        if start_run(alone, dict(os.environ)).wait():
            return failed(alone, "the run without a cluster failed")
        run = start_run(clustered, environment, "EXECUTOR=slurm", f"EXECUTOR_OPTIONS={OPTIONS}", "PIECE=72", "JOBS=2")
        killed = kill_first(KILLED, run, environment)
        if run.wait():
            return failed(clustered, "the run by Slurm failed")
        if not killed or f"FAILED {KILLED}" not in (clustered / "output").read_text():
            return failed(clustered, f"no job of {KILLED} was killed")
        return compare_tables(alone / "checkout/figures/small", clustered / "checkout/figures/small")


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm whose every file lies in `folder`; gives the environment in which its commands find it."""
    folder.chmod(0o755)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    words = {"host": socket.gethostname().split(".")[0], "ports": free_ports(2), "cores": os.cpu_count()}
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
    running = []
    try:
        for words in daemons:
            output = (folder / f"{words[0]}.out").open("w")
            running.append(subprocess.Popen(words, env=environment, stdout=output, stderr=output))
            time.sleep(1)
        wait_for_node(environment, folder)
        yield environment
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(timeout=30)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address on which nothing listens."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in opened]


def wait_for_node(environment: dict[str, str], folder: Path) -> None:
    """Return when the node takes jobs; after a minute, say what the daemons wrote."""
    for _ in range(60):
        state = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout
        if state.strip() == "idle":
            return
        time.sleep(1)
    logs = "\n".join(path.read_text()[-1500:] for path in sorted(folder.glob("*.out")) + sorted(folder.glob("*.log")))
    raise SystemExit(f"Slurm's node did not become idle:\n{logs}")


def start_run(folder: Path, environment: dict[str, str], *more: str) -> subprocess.Popen:
    """Start the small run in a fresh copy of this checkout, beside which its output is kept."""
    place = folder / "checkout"
    for part in PARTS:
        source, target = ROOT / part, place / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "cache", "raw"))
        else:
            shutil.copy2(source, target)
    words = [sys.executable, "-m", "helpers", "reproduce", *SETTINGS, *more]
    with (folder / "output").open("w") as output:
        given = environment | {"PYTHONPATH": str(place)}
        return subprocess.Popen(words, cwd=place, env=given, stdout=output, stderr=output)


def kill_first(rule: str, run: subprocess.Popen, environment: dict[str, str]) -> bool:
    """Kill the first job of this rule once it has run for a moment; False where the run ended without one."""
    while run.poll() is None:
        found = subprocess.run(
            ["squeue", "-h", "-o", "%i %T %k"], env=environment, capture_output=True, text=True
        ).stdout
        jobs = [line.split()[0] for line in found.splitlines() if " RUNNING " in line and rule in line]
        if jobs:
            time.sleep(1)
            subprocess.run(["scancel", jobs[0]], env=environment, check=True)
            print(f"killed job {jobs[0]}, of {rule}")
            return True
        time.sleep(0.5)
    return False


def failed(folder: Path, why: str) -> int:
    print(f"{why}:\n{(folder / 'output').read_text()[-6000:]}", file=sys.stderr)
    return 1


def compare_tables(one: Path, other: Path) -> int:
    """0 where both folders hold the same tables."""
    tables = [sorted(path.relative_to(place) for path in place.rglob("*.csv")) for place in (one, other)]
    differing = [path for path in tables[0] if path in tables[1] and not filecmp.cmp(one / path, other / path, False)]
    differing += sorted(set(tables[0]) ^ set(tables[1]))
    if differing or not tables[0]:
        print(f"tables differ: {', '.join(map(str, differing)) or 'there are none'}", file=sys.stderr)
        return 1
    print(f"{len(tables[0])} tables are the same by Slurm, with a job killed on the way, and without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
