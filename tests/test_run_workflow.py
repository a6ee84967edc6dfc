"""`make reproduce`: what is refused before anything starts, and what a run makes again after an edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from checkout import copy_checkout, edit, run_python, write_notebook

from helpers.run.paths import ROOT
from helpers.run.profile import ProfileError, Run, load_profile
from helpers.run.steps import all_steps, made_in_order, needed, notebook_reads
from helpers.run.workflow import ProgressHandler, _part_of, executor_from, jobs_from, split_settings, wanted_notebooks
from helpers.study import open_study

TINY = ("phantom_oct_train=120", "phantom_oct_test_per_class=6", "head_steps=40", "limited_per_class=4")
TINY += ("image_size=64", "validation_fraction=0.3")


def test_settings_are_sorted_into_the_runs_own_and_the_profiles_whatever_their_case():
    own, overrides = split_settings(["PROFILE=paper", "DATA_DIR=/data", "backbone=MobileNetV2", "jobs=3"])
    given = {name: value for name, value in own.items() if value}
    assert given == {"profile": "paper", "jobs": "3", "executor": "local"}
    assert overrides == ["DATA_DIR=/data", "backbone=MobileNetV2"]


@pytest.mark.parametrize(
    ("word", "answer"),
    [("PROFIL=paper", "did you mean PROFILE?"), ("BACKBON=x", "did you mean BACKBONE?"), ("seed", "write key=value")],
)
def test_a_misspelt_setting_is_refused_with_the_nearest(word, answer):
    with pytest.raises(ProfileError, match=answer.replace("?", r"\?")):
        split_settings([word])


def test_notebooks_are_named_in_full_or_by_number():
    assert wanted_notebooks("02") == wanted_notebooks("notebooks/02_multiclass_roc.ipynb") == ["02_multiclass_roc"]
    assert wanted_notebooks("00,02_multiclass_roc") == ["00_data", "02_multiclass_roc"]
    with pytest.raises(ProfileError, match=r"did you mean 02_multiclass_roc\?"):
        wanted_notebooks("02_multiclas_roc")


def test_a_profile_names_the_notebooks_whose_images_it_does_not_have(capsys):
    profile, names = load_profile("medmnist"), wanted_notebooks("")
    kept = _part_of(profile, names, asked=False)
    assert [name[:2] for name in names if name not in kept] == ["08", "09", "10", "11", "12"]
    assert "09_covid_bridge (covid_source=none)" in capsys.readouterr().err
    with pytest.raises(
        ProfileError, match=r"not part of profile medmnist: 08_view_classification \(view_source=none\)"
    ):
        _part_of(profile, ["07_pneumonia", "08_view_classification"], asked=True)
    with pytest.raises(ProfileError, match="08_view_classification is not part of profile medmnist"):
        open_study("08_view_classification", "medmnist")
    assert _part_of(load_profile("phantom"), names, asked=True) == names


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_jobs_must_be_a_whole_number(text):
    with pytest.raises(ProfileError, match="JOBS"):
        jobs_from(text)


def test_the_first_notebook_and_what_it_reads_is_made_before_all_others():
    order = made_in_order()
    first = (*needed(notebook_reads("02_multiclass_roc").steps), "02_multiclass_roc")
    assert order[: len(first)] == first and order.index("13_paper_audit") > order.index("12_generalization")
    for name in set(order) - set(all_steps()):
        assert all(order.index(step) < order.index(name) for step in needed(notebook_reads(name).steps))


@pytest.mark.parametrize(
    ("name", "options", "answer"),
    [("slrum", "", "pip install snakemake-executor-plugin-slrum"), ("dryrun", "--nothing", "arguments: --nothing")],
)
def test_an_executor_that_cannot_be_used_is_refused_with_the_remedy(name, options, answer):
    with pytest.raises(ProfileError, match=answer):
        executor_from(name, options, "")


def test_the_executor_that_makes_old_files_newer_is_refused():
    with pytest.raises(ProfileError, match="stale would be shown as new"):
        executor_from("touch", "", "")


def test_an_environment_with_a_blank_in_its_path_is_refused_for_a_cluster(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/an environment/bin/python")
    with pytest.raises(ProfileError, match="without a blank in /an environment"):
        executor_from("dryrun", "", "")


def test_the_time_left_follows_this_machines_pace_and_is_not_told_where_a_step_is_new(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    said = []
    for expected in ({"one": 10, "two": 30}, {"one": 10}):
        now[0], handler = 0.0, ProgressHandler(expected)
        handler._run_info(SimpleNamespace(stats={"one": 1, "notebook_two": 1, "all": 1, "total": 3}))
        handler._job_info(SimpleNamespace(jobid=1, rule_name="one", wildcards={}))
        now[0] = 20.0  # half as fast as expected
        handler._job_finished(SimpleNamespace(job_id=1))
        said.append(capsys.readouterr().err)
    assert "1 steps and 1 notebooks to run" in said[0] and "about 60 s left" in said[0] and "left" not in said[1]


def test_a_job_that_is_sent_again_and_ends_well_has_not_failed():
    handler, job = ProgressHandler(), SimpleNamespace(jobid=1, job_id=1, rule_name="one", wildcards={"piece": "2"})
    for event in (handler._job_info, handler._job_error, handler._job_info, handler._job_finished):
        event(job)
    assert not handler.failed and handler.done == handler.total == 1


@pytest.mark.parametrize("name", ["", "../x", "a b", "Upper", "x/y"])
def test_a_run_cannot_be_named_so_that_it_leaves_its_folder(name):
    with pytest.raises(ProfileError, match="cannot name a run"):
        Run(name)


@pytest.mark.parametrize("word", ["PROFILE=papr", "RUN=../x", "HEAD_STEPS=none", "READERS_FILE=nowhere.csv"])
def test_a_wrong_command_line_exits_with_2_and_one_line(word):
    done = run_python(ROOT, "-m", "helpers", "reproduce", word)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1


def test_starting_a_notebook_imports_no_tensorflow():
    code = "import helpers.study, helpers.run.report, sys; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    assert run_python(ROOT, "-c", code).stdout.strip() == "False False"


# --- a small run in a checkout of its own, whose path holds a blank ---------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("workflow"))


def reproduce(place: Path) -> list[str]:
    """The names of what ran, and the run must end well."""
    done = run_python(place, "-m", "helpers", "reproduce", "ONLY=02", *TINY)
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stderr.splitlines() if line.startswith("  done ")]


def numbers(place: Path) -> pd.DataFrame:
    return pd.read_csv(place / "figures/phantom/02_multiclass_roc/metrics.csv")


@pytest.mark.timeout(600)
def test_an_edit_makes_again_what_depends_on_it_and_a_comment_nothing(checkout):
    steps = ["oct_data", "oct_features", "multiclass", "limited", "02_multiclass_roc"]
    assert sorted(reproduce(checkout)) == sorted(steps)
    first = numbers(checkout)
    assert reproduce(checkout) == []
    idle = f"import sys; from helpers.run.workflow import reproduce; reproduce({['ONLY=02', *TINY]})"
    assert run_python(checkout, "-c", f"{idle}; print('snakemake' in sys.modules)").stdout == "False\n"

    edit(checkout, "helpers/kermany/models.py", "# --- heads", "# heads, a comment")
    edit(checkout, "notebooks/01_training_curves.ipynb", "# 01 ", "# 01  ")
    assert reproduce(checkout) == []

    edit(checkout, "helpers/kermany/models.py", "for key in keys}", "for key in keys} | {'learning_rate': 0.3}")
    assert sorted(reproduce(checkout)) == sorted(steps[2:])
    assert not numbers(checkout)["value"].equals(first["value"])

    record = json.loads((checkout / "runs/phantom/records/02_multiclass_roc.json").read_text())
    assert record["key"] == json.loads((checkout / "runs/phantom/keys/02_multiclass_roc.json").read_text())["key"]


def test_a_notebooks_kernel_imports_the_code_beside_it(checkout):
    """Also where the environment was made for another checkout."""
    write_notebook(checkout / "mine.ipynb", "import helpers; print(helpers.__file__)")
    code = (
        "from pathlib import Path; from helpers.run.notebooks import execute;"
        "print(execute(Path('mine.ipynb'), Path('good.ipynb'), Path('failed.ipynb')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True)
    assert str(checkout / "helpers") in (checkout / "good.ipynb").read_text()


def test_a_notebook_of_another_checkout_is_refused_with_the_remedy(checkout):
    code = "from helpers.study import open_study; open_study('02_multiclass_roc')"
    done = run_python(checkout, "-c", code, cwd="notebooks", PYTHONPATH=str(ROOT))
    assert done.returncode and "is imported from" in done.stderr and "make lab" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_works_where_the_paths_of_checkout_and_environment_hold_blanks(checkout):
    environment = checkout.parent / "an environment"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    files = b"".join((checkout / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))
    checksum = subprocess.run(["cksum"], input=files, capture_output=True, check=True).stdout.split()[0].decode()
    (environment / f".installed-{checksum}").touch()
    given = os.environ | {"VIRTUAL_ENV": str(environment)}
    done = subprocess.run(["make", "keys"], cwd=checkout, env=given, capture_output=True, text=True)
    assert done.returncode == 0 and "head_steps" in done.stdout, done.stderr
    assert "installing" not in done.stdout
