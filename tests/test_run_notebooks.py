"""Running one notebook: where the good and the failed ones land, and what never starts."""

from functools import partial

import pytest
from checkout import write_notebook

from helpers.run import notebooks, paths
from helpers.run.notebooks import check_parameters, execute, not_shown
from helpers.run.profile import ProfileError, Run


@pytest.fixture
def make_notebook(tmp_path):
    return partial(write_notebook, tmp_path / "one.ipynb")


@pytest.fixture
def run_it(tmp_path):
    return lambda path, **given: execute(
        path, tmp_path / "good" / path.name, tmp_path / "failed" / path.name, given, tmp_path / "log.txt"
    )


def test_when_all_cells_run_then_the_notebook_stands_in_its_place_with_its_parameters(make_notebook, run_it, tmp_path):
    assert run_it(make_notebook("print('x is', x)"), x=5) == ""
    assert "x is 5" in (tmp_path / "good" / "one.ipynb").read_text()
    assert "x is 5" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "failed" / "one.ipynb").exists()


def test_when_a_cell_raises_then_the_notebook_is_kept_as_failed_and_no_good_one_stands(make_notebook, run_it, tmp_path):
    assert not run_it(make_notebook("x"))
    assert "ValueError: no such scan" in run_it(make_notebook("raise ValueError('no such scan')"))
    assert "no such scan" in (tmp_path / "failed" / "one.ipynb").read_text()
    assert list((tmp_path / "good").iterdir()) == []


def test_when_the_kernel_dies_then_the_error_says_so(make_notebook, run_it):
    assert "kernel died" in run_it(make_notebook("import os; os._exit(9)"))


def test_kernels_talk_through_sockets_that_cannot_collide(make_notebook, run_it, tmp_path):
    code = "import json, ipykernel; print(json.load(open(ipykernel.connect.get_connection_file()))['transport'])"
    assert not run_it(make_notebook(code))
    assert '"ipc\\n"' in (tmp_path / "good" / "one.ipynb").read_text()


def test_when_a_parameter_is_not_declared_then_no_kernel_starts(make_notebook, run_it, tmp_path):
    path = make_notebook("x", parameters="threshold = 1")
    with pytest.raises(ProfileError, match=r"no parameter 'treshold'; did you mean threshold\?"):
        run_it(path, treshold=2)
    assert not (tmp_path / "good").exists()


def test_when_a_notebook_has_no_parameters_cell_then_it_is_refused(make_notebook):
    with pytest.raises(ProfileError, match="no cell tagged 'parameters'"):
        check_parameters(make_notebook("1", parameters=""), {})


def test_a_figure_or_table_that_is_not_shown_exactly_once_is_named(make_notebook, run_it, tmp_path):
    show = "[display(name, metadata={'made': name}) for name in ('a.png', 't.csv', 't.csv')]"
    assert run_it(make_notebook(show)) == ""
    made = {"figures": [{"name": "a"}, {"name": "b"}], "tables": [{"name": "t"}]}
    assert not_shown(tmp_path / "good" / "one.ipynb", made) == ["b.png", "t.csv"]


def test_figures_of_an_earlier_execution_are_gone_when_a_notebook_is_executed_again(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(notebooks, "execute", lambda *given: "a cell failed")
    monkeypatch.setattr(Run, "parameters", lambda run: {})
    dropped, other = (tmp_path / "figures/one" / name / "old.csv" for name in ("02_multiclass_roc", "03_binary_roc"))
    for path in (dropped, other):
        path.parent.mkdir(parents=True)
        path.touch()
    assert notebooks.run_notebook("02_multiclass_roc", Run("one")) == 1
    assert not dropped.exists() and other.exists()
