# What depends on what. Started by `make reproduce` (helpers/run/workflow.py), one run at a time: config["run"].
#
#   data > bottlenecks > experiments > notebooks        data > networks > notebooks
#
# Which steps there are and what each notebook reads is said in helpers/run/steps.py. The report is made by `make reproduce`
# after every run, so that it also tells of what failed.
#
# A step's input is the profile, the steps it reads, and the code that makes it. What a step leaves for the next is a
# small JSON file that says what was made (keys and fingerprints, no times), so that a step which made the same thing
# again does not set off the ones after it.
import json
import sys

from helpers.run.steps import STEPS, of_kind, reads

RUN = f"runs/{config['run']}"
PROFILE = f"{RUN}/profile.json"
PYTHON = f"{sys.executable} -m helpers"
NOTEBOOKS = sorted(glob_wildcards("notebooks/{name,[0-9]{2}_[a-z0-9_]+}.ipynb").name)


def code(*patterns):
    return sorted(str(path) for pattern in patterns for path in Path("helpers").glob(pattern))


def stages(names):
    return [f"{RUN}/stages/{name}.json" for name in names]


def published_predictions():
    """Zech's, where they lie: notebook 11 re-scores them, so it is out of date when they come to lie there."""
    folder = Path(json.loads(Path(PROFILE).read_text())["profile"]["data_dir"])
    return sorted(str(path) for path in folder.glob("reproduce-chexnet/pretrained/*.csv"))


def before(wildcards):
    return stages(STEPS[wildcards.name].after)


def models(*names):
    return code(*(f"model/{name}.py" for name in names))


WINGS = code("kermany/*.py", "rajkomar/*.py", "carr/*.py", "zech/*.py")
BACKBONE = models("backbones", "smallnet", "googlenet", "formula_weights", "engines", "compiled", "bottlenecks", "shards")
HEAD = [*models("head", "experiment"), *code("kermany/models.py")]
NETWORK = [*models("*"), *WINGS]
EXPLAINED = ("06_occlusion", "09_covid_bridge", "10_retinal_bridge", "11_chexnet", "12_generalization")
COMMON = code("run/profile.py", "run/keys.py", "run/runs.py", "run/stages.py", "run/steps.py", "run/provenance.py")


rule all:
    input: expand(f"{RUN}/notebooks/{{name}}.ipynb", name=NOTEBOOKS)


rule data:
    input: PROFILE, COMMON, code("data/*.py", "phantoms/*.py")
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="|".join(of_kind("data"))
    threads: workflow.cores
    shell: "{PYTHON} stage {wildcards.name} {config[run]}"


rule bottlenecks:
    input: PROFILE, before, COMMON, BACKBONE
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="|".join(of_kind("bottlenecks"))
    threads: workflow.cores
    shell: "{PYTHON} stage {wildcards.name} {config[run]}"


rule experiment:
    input: PROFILE, before, COMMON, HEAD
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="|".join(of_kind("experiment"))
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} stage {wildcards.name} {config[run]} 2> {log}"


rule network:
    input: PROFILE, before, COMMON, NETWORK
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="|".join(of_kind("network"))
    threads: workflow.cores
    shell: "{PYTHON} stage {wildcards.name} {config[run]}"


rule notebook:
    input:
        "notebooks/{name}.ipynb",
        PROFILE,
        lambda wildcards: stages(reads(wildcards.name).steps),
        COMMON,
        code("study.py", "run/claims.py", "metrics/*.py", "plots/*.py"),
        WINGS,
        lambda wildcards: code("explain/*.py") if wildcards.name in EXPLAINED else [],
        lambda wildcards: code("audit/*.py") if wildcards.name == "13_paper_audit" else [],
        lambda wildcards: published_predictions() if wildcards.name == "11_chexnet" else [],
        sorted(str(path) for path in Path("data/published").glob("*.[ct]*")),
    output: f"{RUN}/notebooks/{{name}}.ipynb", f"{RUN}/records/{{name}}.json"
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} notebook {wildcards.name} {config[run]} 2> {log}"
