"""The steps of a run fit together: every name that is read is made, and in order."""

import pytest

from helpers.data.sources import LOADERS
from helpers.kermany.models import CLASSES
from helpers.run.runs import notebook_names
from helpers.run.steps import READS, STEPS, needed, of_kind, reads


def test_every_step_that_is_read_is_made_before():
    order = list(STEPS)
    for name, step in STEPS.items():
        assert all(order.index(before) < order.index(name) for before in step.after)
        assert step.data in LOADERS


@pytest.mark.parametrize("notebook", notebook_names())
def test_every_notebook_reads_steps_of_its_own_data_set(notebook):
    assert notebook in READS
    assert {STEPS[name].data for name in reads(notebook).steps} <= {reads(notebook).data}


def test_every_head_is_an_experiment_with_classes():
    assert set(of_kind("experiment")) - {"learning_curve"} == set(CLASSES)


def test_needed_steps_come_with_all_before_them_in_order():
    assert needed(("multiclass",)) == ("oct_data", "oct_bottlenecks", "multiclass")
    assert needed(()) == ()


def test_an_unlisted_notebook_reads_the_oct_images():
    assert reads("42_mine").steps == ("oct_bottlenecks",)
