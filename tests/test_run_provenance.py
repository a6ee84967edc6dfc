"""What the machine has, for the report and the choice of an engine."""

import json
import os

import pytest

from helpers.run import provenance


def test_the_machine_is_described_in_words_and_numbers():
    machine = provenance.describe()
    assert 1 <= machine["cores"] <= os.cpu_count() and machine["gpus"] and machine["cpu"]
    json.dumps(machine)


@pytest.mark.parametrize(
    ("listed", "name", "found"),
    [
        ("model name\t: A CPU\nflags\t\t: fpu avx512f amx_bf16 other\n", "A CPU", {"avx512f", "amx_bf16"}),
        ("Features\t: fp asimdhp\n", None, {"asimdhp"}),
        (None, None, set()),
    ],
)
def test_instruction_sets_are_read_from_the_processors_own_list(tmp_path, monkeypatch, listed, name, found):
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    if listed:
        (tmp_path / "cpuinfo").write_text(listed)
    assert provenance.cpu_model() == name if name else provenance.cpu_model()
    assert provenance.instructions() == found
