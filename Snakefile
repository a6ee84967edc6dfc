# What depends on what. Started by `make reproduce` (helpers/orchestrate.py), one run at a time: config["run"].
#
#   data > bottlenecks > experiments > notebooks
#
# The report is made by `make reproduce` after every run, so that it also tells of notebooks that failed.
#
# A step's input is the profile, the steps it reads, and the code that makes it. What a step leaves for the next is a
# small JSON file that says what was made (keys and fingerprints, no times), so that a step which made the same thing
# again does not set off the ones after it.
import sys

RUN = f"runs/{config['run']}"
PROFILE = f"{RUN}/profile.json"
PYTHON = f"{sys.executable} -m helpers"

# The trained heads each notebook reads; a notebook not named here reads the data and the bottlenecks only.
EXPERIMENTS = {
    "01_training_curves": ["multiclass", "cnv_normal", "dme_normal", "drusen_normal"],
    "02_multiclass_roc": ["multiclass", "limited"],
    "03_binary_roc": ["cnv_normal", "dme_normal", "drusen_normal"],
    "04_limited_data": ["multiclass", "limited", "learning_curve"],
    "05_expert_comparison": ["multiclass", "limited"],
}
NOTEBOOKS = sorted(glob_wildcards("notebooks/{name,[0-9]{2}_[a-z0-9_]+}.ipynb").name)


def code(*patterns):
    return sorted(str(path) for pattern in patterns for path in Path("helpers").glob(pattern))


BACKBONE = [f"model/{name}.py" for name in ("backbones", "smallnet", "formula_weights", "engines", "compiled", "bottlenecks", "shards")]
HEAD = [f"model/{name}.py" for name in ("heads", "head_training", "experiments", "learning_curve")]
COMMON = code("profile.py", "runs.py", "stages.py", "provenance.py")


rule all:
    input: expand(f"{RUN}/notebooks/{{name}}.ipynb", name=NOTEBOOKS)


rule data:
    input: PROFILE, COMMON, code("data/*.py")
    output: f"{RUN}/stages/data.json"
    threads: workflow.cores
    shell: "{PYTHON} stage data {config[run]}"


rule bottlenecks:
    input: PROFILE, f"{RUN}/stages/data.json", COMMON, code(*BACKBONE)
    output: f"{RUN}/stages/bottlenecks.json"
    threads: workflow.cores
    shell: "{PYTHON} stage bottlenecks {config[run]}"


rule experiment:
    input: PROFILE, f"{RUN}/stages/bottlenecks.json", COMMON, code(*HEAD)
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="multiclass|limited|cnv_normal|dme_normal|drusen_normal|learning_curve"
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} stage {wildcards.name} {config[run]} 2> {log}"


rule notebook:
    input:
        "notebooks/{name}.ipynb",
        PROFILE,
        f"{RUN}/stages/data.json",
        f"{RUN}/stages/bottlenecks.json",
        lambda wildcards: [f"{RUN}/stages/{name}.json" for name in EXPERIMENTS.get(wildcards.name, [])],
        COMMON,
        code("study.py", "claims.py", "readers.py", "metrics/*.py", "plots/*.py"),
        sorted(str(path) for path in Path("data/published").glob("*.csv")),
    output: f"{RUN}/notebooks/{{name}}.ipynb", f"{RUN}/records/{{name}}.json"
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} notebook {wildcards.name} {config[run]} 2> {log}"

