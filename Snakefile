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


def before(wildcards):
    return stages(all_steps()[wildcards.name].after)


def reads_features(name):
    return any(all_steps()[other].kind == "features" for other in all_steps()[name].after)


rule all:
    input: expand(f"{RUN}/notebooks/{{name}}.ipynb", name=notebook_names())


# A head on ready features takes one core; drawing, features and networks take all.
rule step:
    input: f"{RUN}/keys/{{name}}.json", before
    output: f"{RUN}/stages/{{name}}.json"
    wildcard_constraints: name="|".join(all_steps())
    threads: lambda wildcards: 1 if reads_features(wildcards.name) else workflow.cores
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} step {wildcards.name} {config[run]} 2> >(tee {log:q} >&2)"


rule notebook:
    input:
        f"{RUN}/keys/{{name}}.json",
        lambda wildcards: stages(notebook_reads(wildcards.name).steps),
    output: f"{RUN}/notebooks/{{name}}.ipynb", f"{RUN}/records/{{name}}.json"
    log: f"{RUN}/logs/{{name}}.stderr.log"
    shell: "{PYTHON} notebook {wildcards.name} {config[run]} 2> {log}"
