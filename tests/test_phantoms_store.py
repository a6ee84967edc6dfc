"""How a phantom data set is kept: drawn once, by any number of processes, resumed after a kill, never read damaged."""

import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from helpers.data.catalogue import CatalogueError
from helpers.phantoms import chest_plans, oct
from helpers.phantoms.oct import OCT
from helpers.run import cache

SMALL = {"train": 10, "test_per_class": 1, "seed": 5}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return OCT.load(tmp_path_factory.mktemp("one_process"), 1, **SMALL)


@pytest.mark.parametrize(
    ("phantoms", "settings"), [(OCT, SMALL), (chest_plans.PNEUMONIA, {"train": 5, "test": 3, "seed": 5})]
)
def test_any_number_of_processes_gives_the_same_bytes(phantoms, settings, tmp_path):
    one, two = (phantoms.load(tmp_path / str(workers), workers, **settings) for workers in (1, 2))
    assert one.root.name == two.root.name
    files = sorted(path.relative_to(one.root) for path in one.root.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two.root) for path in two.root.rglob("*") if path.is_file())
    for file in files:
        assert (one.root / file).read_bytes() == (two.root / file).read_bytes(), file


def test_edited_drawing_code_goes_to_another_folder(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "code_digest", lambda *modules: "edited" if "helpers.phantoms.oct" in modules else "")
    assert OCT.load(tmp_path, 1, **SMALL).root.name != drawn.root.name


def test_a_second_call_draws_and_plans_nothing(drawn):
    def fail(**settings):
        pytest.fail("planned again")

    start, fail.__module__ = time.perf_counter(), OCT.plan.__module__
    assert replace(OCT, plan=fail).load(drawn.root.parent, **SMALL).fingerprint() == drawn.fingerprint()
    assert time.perf_counter() - start < 1.0


def test_a_killed_drawing_is_never_read_and_is_resumed(drawn, tmp_path):
    calls = []

    def killed(seed, rows):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(rows)
        return oct.draw(seed, rows)

    killed.__module__ = OCT.draw.__module__
    killed_set = replace(OCT, draw=killed)
    with pytest.raises(KeyboardInterrupt):
        killed_set.load(tmp_path, 1, **SMALL)
    assert not (tmp_path / drawn.root.name).exists()
    part = tmp_path / f"{drawn.root.name}.part"
    first = part / calls[0][0]["path"]
    stamp = first.stat().st_mtime_ns
    (part / calls[1][0]["mask"]).unlink()  # files of an image that were written in part
    (first.parent / "CNV-1-1.jpeg.99.tmp").write_bytes(b"torn")

    resumed = OCT.load(tmp_path, 1, **SMALL)
    pd.testing.assert_frame_equal(resumed.frame, drawn.frame)
    assert resumed.file(calls[0][0]["path"]).stat().st_mtime_ns == stamp
    assert not list(resumed.root.rglob("*.tmp")) and not part.exists()


def test_a_damaged_set_is_an_error_that_says_what_to_do(tmp_path):
    settings = {"train": 4, "test_per_class": 1, "seed": 0}
    catalogue = OCT.load(tmp_path, 1, **settings)
    catalogue.file(catalogue.frame["mask"][0]).unlink()
    with pytest.raises(CatalogueError, match=r"1 files are missing.*delete the folder"):
        OCT.load(tmp_path, 1, **settings)
    catalogue.file("phantom.csv").unlink()
    with pytest.raises(CatalogueError, match="cannot be read"):
        OCT.load(tmp_path, 1, **settings)


def test_a_script_without_a_main_guard_draws_with_several_processes(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pathlib import Path\nfrom helpers.phantoms.oct import OCT\n"
        f"print(len(OCT.load(Path({str(tmp_path)!r}), 2, train=20, test_per_class=2, seed=5).frame))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert run.stdout == "28\n", run.stderr
