# What depends on what. Started by `make reproduce` (helpers/run/workflow.py), one run at a time: config["run"].
#
#   data > features > heads > notebooks        data > networks > notebooks
#
# Which steps there are, and what each notebook reads, is declared by the papers' STUDYs. A step's input is its key
# (helpers/run/cache.py: settings, data, weights, code), a small file that changes when the key does, and the steps before
# it. The report is made by `make reproduce` after every run, so that it also lists what failed.
import shlex
import sys

from helpers.run.steps import all_steps, notebook_names, notebook_reads

RUN = f"runs/{config['run']}"
PYTHON = f"{shlex.quote(sys.executable)} -m helpers"


def stages(names):
    return [f"{RUN}/stages/{name}.json" for name in names]


def of_kind(*kinds):
    return "|".join(name for name, step in all_steps().items() if step.kind in kinds)


def before(wildcards):
    return stages(all_steps()[wildcards.name].after)


rule all:
    input: expand(f"{RUN}/notebooks/{{name}}.ipynb", name=notebook_names())


rule data:
    input: f"{RUN}/keys/{{name}}.json", before
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name=of_kind("data")
    threads: workflow.cores
    shell: "{PYTHON} step {wildcards.name} {config[run]}"


rule features:
    input: f"{RUN}/keys/{{name}}.json", before
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name=of_kind("features")
    threads: workflow.cores
    shell: "{PYTHON} step {wildcards.name} {config[run]}"


rule experiment:
    input: f"{RUN}/keys/{{name}}.json", before
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name=of_kind("experiment")
    threads: lambda wildcards: 1 if f"{all_steps()[wildcards.name].data}_features" in all_steps()[wildcards.name].after else workflow.cores
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} step {wildcards.name} {config[run]} 2> {log}"


rule notebook:
    input:
        f"{RUN}/keys/{{name}}.json",
        lambda wildcards: stages(notebook_reads(wildcards.name).steps),
    output: f"{RUN}/notebooks/{{name}}.ipynb", f"{RUN}/records/{{name}}.json"
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} notebook {wildcards.name} {config[run]} 2> {log}"
