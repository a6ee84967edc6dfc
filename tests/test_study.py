"""A whole study on a handful of phantoms: from pixels to the report, in folders of its own."""

import pandas as pd
import pytest

from helpers.run import paths
from helpers.run.claims import ClaimError
from helpers.run.profile import ProfileError
from helpers.run.provenance import read_json
from helpers.run.report import build_report, summary
from helpers.run.runs import Run
from helpers.run.stages import run_stage
from helpers.study import open_study

TINY = {
    "phantom_oct_train": 120,
    "phantom_oct_test_per_class": 6,
    "head_steps": 30,
    "limited_per_class": 4,
    "image_size": 64,
    "bootstrap": 100,
    "validation_fraction": 0.3,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs, figures and caches in a temporary folder."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNS", "FIGURES", "CACHE"):
            patch.setattr(paths, name, folder / name.lower())
        patch.setattr("helpers.data.sources.CACHE", folder / "cache")
        yield folder


@pytest.fixture(scope="module")
def study(home):
    run = Run("tiny")
    run.save_profile("phantom", TINY)
    for stage in ("oct_data", "oct_bottlenecks", "multiclass"):
        run_stage(stage, run)
    return open_study("02_multiclass_roc", "phantom", TINY, "tiny")


def test_stages_leave_what_they_made_and_say_the_same_when_run_again(study):
    before = study.run.stage("multiclass").read_text()
    run_stage("multiclass", study.run)
    assert study.run.stage("multiclass").read_text() == before
    assert set(read_json(study.run.stage("oct_bottlenecks"))) >= {"key", "engine", "precision", "agreement", "warnings"}


def test_scores_are_the_test_images_with_probabilities(study):
    scores = study.scores("multiclass")
    assert len(scores) == 24 and set(scores["split"]) == {"test"}
    assert scores[["p_CNV", "p_DME", "p_DRUSEN", "p_NORMAL"]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(scores["patient_id"]).isdisjoint(study.split.frame.query("split != 'test'")["patient_id"])


def test_a_study_leaves_figures_tables_claims_and_a_report(study):
    import matplotlib.pyplot as plt

    from helpers.metrics.proportions import proportion

    figure, axes = plt.subplots(layout="constrained")
    study.figure("one", figure, shows="Figure 4A", caption="A < B", published="kermany2018.figure.4A")
    study.table("two", pd.DataFrame({"a": [1.0]}), shows="Table", caption="numbers")
    study.claim("kermany2018.oct.multiclass.accuracy", proportion(20, 24))
    study.warn("mind the gap")
    claims = study.finish().set_index("id")
    assert claims.loc["kermany2018.oct.multiclass.accuracy", "verdict"] == "not comparable"
    assert {p.name for p in (study.run.figures / "02_multiclass_roc").iterdir()} == {"one.pdf", "one.png", "two.csv"}
    page = build_report(study.run).read_text()
    for words in ("83.3 %", "A &lt; B", "mind the gap", "no evidence about the paper", "data:image/png;base64"):
        assert words in page
    assert "http" not in page.replace("https://doi.org", "")  # one file, nothing fetched
    assert "not comparable" in summary(study.run)


def test_the_same_figure_is_the_same_file(study):
    import matplotlib.pyplot as plt

    files = []
    for name in ("first", "second"):
        figure, axes = plt.subplots(layout="constrained")
        axes.plot([1, 2])
        study.figure(name, figure, shows="", caption="")
        files.append((study.run.figures / "02_multiclass_roc" / f"{name}.pdf").read_bytes())
    assert files[0] == files[1]


def test_when_a_claim_is_unknown_then_the_nearest_is_offered(study):
    other = open_study("02_multiclass_roc", "phantom", TINY, "tiny")
    other.claim("kermany2018.oct.multiclass.acuracy", 1.0)
    with pytest.raises(ClaimError, match="kermany2018.oct.multiclass.accuracy"):
        other.claims()


def test_when_the_notebook_is_unknown_then_the_nearest_is_offered(home):
    with pytest.raises(ProfileError, match=r"did you mean 02_multiclass_roc\?"):
        open_study("02_multiclas")


def test_when_there_is_no_real_data_then_the_error_says_what_to_do(home, tmp_path):
    from helpers.run.stages import Parts

    run = Run("none")
    profile = run.save_profile("paper", {"data_dir": str(tmp_path)})
    with pytest.raises((ValueError, FileNotFoundError), match="make data PROFILE=paper"):
        _ = Parts(profile).catalogue


def test_when_a_step_fails_then_the_report_says_so_and_shows_nothing_that_rests_on_it(study, monkeypatch):
    from helpers.run import stages
    from helpers.run.runs import blocked_by, failed_steps

    study.finish()
    build_report(study.run)
    monkeypatch.setattr(stages, "experiment_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_stage("multiclass", study.run)
    assert "ZeroDivisionError" in failed_steps(study.run)["multiclass"]
    assert blocked_by(study.run, "02_multiclass_roc") == ("multiclass",) and not blocked_by(study.run, "03_binary_roc")
    page = build_report(study.run).read_text()
    assert "The step multiclass failed" in page and "02_multiclass_roc" in page
    assert 'id="02_multiclass_roc"' not in page  # its figures are of an earlier run
    monkeypatch.undo()
    run_stage("multiclass", study.run)
    assert not failed_steps(study.run) and 'id="02_multiclass_roc"' in build_report(study.run).read_text()


def test_when_a_step_is_killed_then_it_counts_as_failed(study):
    from helpers.run.provenance import write_json
    from helpers.run.runs import failed_steps
    from helpers.run.stages import UNFINISHED

    write_json(study.run.timing("limited"), {"seconds": 0, "error": UNFINISHED})
    assert "killed" in failed_steps(study.run)["limited"]
    study.run.timing("limited").unlink()
