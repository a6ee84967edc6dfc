"""The one key: it changes with everything that a result depends on, and with nothing else."""

import shutil
import time

import numpy as np
import pytest
from checkout import changed, copy_checkout, edit, keys_of
from PIL import Image

from helpers.run import paths
from helpers.run.cache import code_digest, file_digest, make_key, modules_behind
from helpers.run.profile import ProfileError, Settings, load_profile
from helpers.run.steps import all_notebooks, all_steps, studies

CARR = {"covid_bridge", "retinal_bridge", "09_covid_bridge", "10_retinal_bridge"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_checkout(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def before(checkout):
    return keys_of(checkout)


@pytest.fixture
def changed_by(checkout, before):
    """What a constant more in a file of the copy changes."""

    def add(file):
        with (checkout / file).open("a", encoding="utf-8") as code:
            code.write("\nADDED = 7\n")
        return changed(before, keys_of(checkout))

    return add


@pytest.fixture
def restored(checkout):
    """Puts back what a test edits in the copy."""
    yield checkout
    for part in ("helpers", "notebooks"):
        shutil.rmtree(checkout / part)
        shutil.copytree(paths.ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))


def test_a_notebook_opened_alone_finds_the_keys_of_the_run(checkout, before):
    assert keys_of(checkout, cwd="notebooks") == before
    assert set(before) == {*all_steps(), *all_notebooks()}


def test_comments_docstrings_and_layout_change_no_key(restored, before):
    for path in (restored / "helpers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"""', '"""Really: ', 1) + "\n\n# a comment at the end\n", encoding="utf-8")
    assert keys_of(restored) == before


def test_a_constant_in_one_papers_training_changes_that_papers_results_alone(restored, changed_by):
    assert changed_by("helpers/carr/models.py") == CARR


def test_the_head_trainer_changes_what_is_trained_with_it_and_no_data(restored, changed_by):
    after = changed_by("helpers/model/head.py")
    assert {"multiclass", "02_multiclass_roc", "pneumonia", "07_pneumonia"} <= after
    assert not after & {name for name, step in all_steps().items() if step.kind in ("data", "features")}
    assert not after & {"00_data", "13_paper_audit"}


def test_a_figures_code_changes_its_notebooks_and_no_step(restored, changed_by):
    assert set() < changed_by("helpers/zech/figures.py") <= {"11_chexnet", "12_generalization"}


def test_a_sentence_of_a_notebook_changes_that_notebook_alone(restored, before):
    edit(restored, "notebooks/03_binary_roc.ipynb", '"profile = \\"phantom\\"', '"profile = \\"paper\\"')
    assert changed(before, keys_of(restored)) == {"03_binary_roc"}


def test_a_setting_changes_what_reads_it(checkout, before):
    after = changed(before, keys_of(checkout, "head_steps=7"))
    assert {"multiclass", "pneumonia", "02_multiclass_roc"} <= after
    assert not after & {"oct_data", "oct_features", "view_models", "site_models", "12_generalization"}
    assert changed(before, keys_of(checkout, "workers=1")) == set()
    assert changed(before, keys_of(checkout, "seed=2")) >= {name for name in all_steps()}


def test_a_file_that_a_setting_names_counts_by_its_content(checkout, tmp_path):
    reads = tmp_path / "reads.csv"
    reads.write_text("reader,image,label\nA,one,CNV\n")
    first = keys_of(checkout, f"readers_file={reads}")
    reads.touch()
    assert keys_of(checkout, f"readers_file={reads}") == first
    reads.write_text("reader,image,label\nA,one,DME\n")  # as long as before
    assert "05_expert_comparison" in changed(first, keys_of(checkout, f"readers_file={reads}"))


def test_a_replaced_file_of_weights_changes_the_features_and_what_follows(checkout, tmp_path):
    weights = tmp_path / "mine.weights.h5"
    weights.write_bytes(b"one")
    first = keys_of(checkout, f"weights={weights}")
    weights.write_bytes(b"two")
    after = changed(first, keys_of(checkout, f"weights={weights}"))
    assert {"oct_features", "multiclass", "02_multiclass_roc"} <= after and "oct_data" not in after


def test_a_folder_of_images_counts_by_its_content(checkout, tmp_path):
    folder = tmp_path / "OCT2017/train/CNV"
    folder.mkdir(parents=True)
    for name in ("CNV-1-1.jpeg", "CNV-2-1.jpeg"):
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / name)
    given = (f"data_dir={tmp_path}", "oct_source=kermany_oct")
    first = keys_of(checkout, *given)
    time.sleep(0.01)
    (folder / "CNV-1-1.jpeg").touch()
    assert keys_of(checkout, *given) == first
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(folder / "CNV-1-1.jpeg")
    second = keys_of(checkout, *given)
    assert {"oct_data", "multiclass", "00_data"} <= changed(first, second)
    assert not changed(first, second) & {"xray_data", "view_models", "13_paper_audit"}
    (folder / "CNV-2-1.jpeg").unlink()
    assert "oct_data" in changed(second, keys_of(checkout, *given))


def test_modules_are_followed_through_imports_inside_functions(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers/lazy_one.py").write_text(
        "def call():\n    from helpers import lazy_two\n    return lazy_two\n"
    )
    (tmp_path / "helpers/lazy_two.py").write_text("from helpers.lazy_three import VALUE\n")
    (tmp_path / "helpers/lazy_three.py").write_text("VALUE = 1\n")
    assert modules_behind("helpers.lazy_one") == {f"helpers.lazy_{number}" for number in ("one", "two", "three")}
    assert code_digest("helpers.lazy_two") != code_digest("helpers.lazy_one")


def test_a_key_depends_on_each_of_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    file = tmp_path / "one.bin"
    file.write_bytes(b"1")
    parts = {"makers": "helpers.run.claims", "settings": {"a": 1}, "inputs": ["k"], "files": [file]}
    first = make_key(**parts)
    assert make_key(**parts) == first and len(first) == 16
    for part in ({"makers": "helpers.run.report"}, {"settings": {"a": 2}}, {"inputs": ["l"]}, {"files": []}):
        assert make_key(**parts | part) != first
    file.unlink()
    assert file_digest(file) == "missing" and make_key(**parts) != first


def test_a_setting_that_was_not_declared_cannot_be_read():
    settings = Settings(load_profile("phantom"), {"seed"}, "the step one")
    assert settings.seed == 1 and settings.workers == 0 and settings.values() == {"seed": 1}
    with pytest.raises(ProfileError, match="the step one reads 'head_steps' without naming it"):
        _ = settings.head_steps


def test_every_step_reads_what_is_made_before_it():
    order = list(all_steps())
    for name, step in all_steps().items():
        assert all(before in order for before in step.after), name
        assert any(step.data in study.data for study in studies().values()), name
