"""What every committed notebook promises."""

import nbformat
import pytest

from helpers.run.notebooks import check_parameters
from helpers.run.paths import NOTEBOOKS
from helpers.run.steps import notebook_names

ALL = notebook_names()


@pytest.fixture(params=ALL)
def notebook(request):
    return request.param, nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def code_of(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert ALL[:2] == ["00_data", "01_training_curves"]


def test_it_is_valid_and_committed_without_outputs(notebook):
    name, book = notebook
    nbformat.validate(book)
    assert not [cell.id for cell in code_of(book) if cell.outputs or cell.execution_count]


def test_it_defines_no_function_and_is_short(notebook):
    name, book = notebook
    assert not [
        line for cell in code_of(book) for line in cell.source.splitlines() if line.startswith(("def ", "class "))
    ]
    assert len(code_of(book)) <= 12
    assert max(len(cell.source.splitlines()) for cell in code_of(book)) <= 30


def test_it_opens_with_the_claim_and_its_parameters_and_ends_with_its_claims(notebook):
    name, book = notebook
    assert book.cells[0].cell_type == "markdown" and "**Claimed**" in book.cells[0].source
    check_parameters(NOTEBOOKS / f"{name}.ipynb", {"profile": "phantom", "overrides": {}, "run": ""})
    assert f'open_study("{name}", profile, overrides, run)' in code_of(book)[1].source
    assert code_of(book)[-1].source == "study.finish()"
