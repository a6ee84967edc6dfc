# What depends on what. Started by `make reproduce` (helpers/run/workflow.py), one run at a time: config["run"].
#
#   data > features > heads > notebooks        data > networks > notebooks
#
# Which steps there are, what each notebook reads and what each asks of the machine is declared by the papers' STUDYs; here
# each becomes a rule. A rule's input is its key (helpers/run/cache.py: settings, data, weights, code), a small file that
# changes when the key does, and the steps before it. What is wanted first has the higher priority. On a cluster,
# config["piece"] is the number of images that a piece of the features has, config["threads"] the most threads of a job (0:
# as many as it asks for), and config["gpus"] says whether GPUs are asked for.
import json
import shlex
import sys
from functools import partial
from pathlib import Path

from helpers.run.steps import all_steps, kind_of, made_in_order, needed, notebook_reads

# What a job asks of a cluster, by kind (`kind_of`): cores, memory (MB), time (minutes), the more of both for each 1,000
# images of its data set, and a GPU where the run asks for GPUs. Two to four times what docs/scale.md gives.
COLUMNS = "cores", "mem_mb", "runtime", "mem_mb per thousand", "runtime per thousand", "gpu"
NEEDS = {
    "data": (4, 4000, 60, 20, 2, False),
    "features": (8, 4000, 60, 10, 2, True),
    "head": (1, 4000, 60, 20, 0.2, False),
    "network": (8, 8000, 240, 100, 10, True),
    "notebook": (2, 4000, 60, 40, 1, False),
}

RUN = f"runs/{config['run']}"
PIECE = int(config.get("piece", 0))
ORDER = made_in_order()
PYTHON = f"{shlex.quote(sys.executable)} -m helpers"
# A job takes its threads and no more: joblib's count of cores (which `available_cores` gives) and TensorFlow's pools.
CALL = "LOKY_MAX_CPU_COUNT={threads} TF_NUM_INTRAOP_THREADS={threads} TF_NUM_INTEROP_THREADS=1 {PYTHON} "


def stages(names):
    return [f"{RUN}/stages/{name}.json" for name in names]


def images_in(data):
    """Images of a data set, as far as it has been catalogued."""
    stage = Path(f"{RUN}/stages/{data}_data.json")
    return json.loads(stage.read_text())["images"] if stage.is_file() else 0


def needs_of(name):
    return dict(zip(COLUMNS, NEEDS[kind_of(name)]))


def asked(what, name, wildcards, attempt):
    """Memory (MB) or time (minutes) of a cluster's job; a job that was lost gets more at each attempt."""
    needs = needs_of(name)
    images = images_in((all_steps().get(name) or notebook_reads(name)).data)
    if wildcards.get("of"):
        images /= int(wildcards.of)
    return int(attempt * (needs[what] + needs[f"{what} per thousand"] * images / 1000))


def resources_of(name):
    """What a rule asks of a cluster, by the resources' names."""
    if not PIECE:
        return {}
    found = {what: partial(asked, what, name) for what in ("mem_mb", "runtime")}
    return found | ({"gpu": 1} if int(config["gpus"]) and needs_of(name)["gpu"] else {})


def threads_for(name):
    """On a cluster as many as asked for. Here one for what cannot use more, all cores for the images of the first
    notebook, which is waited for, and half of them for others: two that run side by side leave no core idle."""
    if PIECE:
        return min(needs_of(name)["cores"], int(config["threads"]) or 1000)
    if kind_of(name) in ("head", "notebook"):
        return 1
    first = next(one for one in ORDER if one not in all_steps())
    return workflow.cores if name in needed(notebook_reads(first).steps) else max(1, workflow.cores // 2)


def before(name, wildcards):
    """The stages that a step reads; of features over many images, their pieces as well."""
    step = all_steps()[name]
    found = stages(step.after)
    if PIECE and step.kind == "features":
        getattr(checkpoints, f"{step.data}_data").get()  # the images can be counted once they are catalogued
        pieces = -(-images_in(step.data) // PIECE)
        found += [f"{RUN}/pieces/{name}.{k}of{pieces}" for k in range(1, pieces + 1)] if pieces > 1 else []
    return found


rule all:
    input: [f"{RUN}/notebooks/{name}.ipynb" for name in ORDER if name not in all_steps()]


for name, step in all_steps().items():
    if step.kind == "data":
        checkpoint:
            name: name
            input: f"{RUN}/keys/{name}.json"
            output: f"{RUN}/stages/{name}.json"
            priority: len(ORDER) - ORDER.index(name)
            threads: threads_for(name)
            resources: **resources_of(name)
            params: name=name
            log: f"{RUN}/logs/{name}.stderr.log"
            shell: CALL + "step {params.name} {config[run]} 2> >(tee {log:q} >&2)"
        continue

    rule:
        name: name
        input: f"{RUN}/keys/{name}.json", partial(before, name)
        output: f"{RUN}/stages/{name}.json"
        priority: len(ORDER) - ORDER.index(name)
        threads: threads_for(name)
        resources: **resources_of(name)
        params: name=name
        log: f"{RUN}/logs/{name}.stderr.log"
        shell: CALL + "step {params.name} {config[run]} 2> >(tee {log:q} >&2)"

    if step.kind == "features" and PIECE:
        rule:
            name: f"{name}_piece"
            input: f"{RUN}/keys/{name}.json", stages(step.after)
            output: touch(f"{RUN}/pieces/{name}.{{piece}}of{{of}}")
            priority: len(ORDER) - ORDER.index(name)
            threads: threads_for(name)
            resources: **resources_of(name)
            params: name=name
            log: f"{RUN}/logs/{name}.{{piece}}of{{of}}.stderr.log"
            shell: CALL + "piece {params.name} {wildcards.piece} {wildcards.of} {config[run]} 2> >(tee {log:q} >&2)"


for name in ORDER:
    if name not in all_steps():
        rule:
            name: f"notebook_{name}"
            input: f"{RUN}/keys/{name}.json", stages(notebook_reads(name).steps)
            output: f"{RUN}/notebooks/{name}.ipynb", f"{RUN}/records/{name}.json"
            priority: len(ORDER) - ORDER.index(name)
            threads: threads_for(name)
            resources: **resources_of(name)
            params: name=name
            log: f"{RUN}/logs/{name}.stderr.log"
            shell: CALL + "notebook {params.name} {config[run]} 2> {log}"
