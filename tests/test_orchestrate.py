"""What a user may say to `make reproduce`, and what is refused before anything starts."""

import subprocess
import sys

import pytest

from helpers.run.paths import ROOT
from helpers.run.profile import ProfileError
from helpers.run.runs import Run
from helpers.run.workflow import jobs_from, split_settings, wanted_notebooks


def test_settings_are_sorted_into_the_runs_own_and_the_profiles_whatever_their_case():
    own, overrides = split_settings(["PROFILE=paper", "DATA_DIR=/data", "backbone=MobileNetV2", "jobs=3"])
    assert own == {"profile": "paper", "only": "", "jobs": "3", "run": ""}
    assert overrides == ["DATA_DIR=/data", "backbone=MobileNetV2"]


@pytest.mark.parametrize(
    ("word", "answer"),
    [("PROFIL=paper", "did you mean PROFILE?"), ("BACKBON=x", "did you mean BACKBONE?"), ("seed", "write key=value")],
)
def test_when_a_setting_is_misspelt_then_the_nearest_is_offered(word, answer):
    with pytest.raises(ProfileError, match=answer.replace("?", r"\?")):
        split_settings([word])


def test_notebooks_are_named_in_full_or_by_number():
    assert wanted_notebooks("02") == wanted_notebooks("notebooks/02_multiclass_roc.ipynb") == ["02_multiclass_roc"]
    assert wanted_notebooks("00,02_multiclass_roc") == ["00_data", "02_multiclass_roc"]
    assert len(wanted_notebooks("")) >= 6
    with pytest.raises(ProfileError, match=r"did you mean 02_multiclass_roc\?"):
        wanted_notebooks("02_multiclas_roc")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_when_jobs_is_no_whole_number_then_it_is_refused(text):
    with pytest.raises(ProfileError, match="JOBS"):
        jobs_from(text)


@pytest.mark.parametrize("name", ["", "../x", "a b", "Upper", "x/y"])
def test_when_a_run_name_could_leave_its_folder_then_it_is_refused(name):
    with pytest.raises(ProfileError, match="cannot name a run"):
        Run(name)


def test_when_the_command_line_is_wrong_then_it_exits_with_2_and_one_line():
    for words in (["reproduce", "PROFILE=papr"], ["reproduce", "RUN=../x"], ["reproduce", "HEAD_STEPS=none"]):
        done = subprocess.run([sys.executable, "-m", "helpers", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1


def test_importing_helpers_is_light():
    code = (
        "import helpers, sys; print([m for m in ('tensorflow', 'keras', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_importing_the_notebooks_handle_leaves_tensorflow_alone():
    code = "import helpers.study, helpers.run.stages, helpers.run.report, sys; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
