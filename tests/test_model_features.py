"""What is computed, what is kept, and what is believed when it is read again.

A stand-in for the network, without TensorFlow: features are a fixed random projection of the pixels. Run as a script,
this file extracts slowly, so that a test can kill it.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pyarrow import parquet

from helpers.data import images as pixels
from helpers.data.catalogue import Catalogue
from helpers.data.images import UnreadableImage
from helpers.model import features as module
from helpers.model.backbones import Backbone
from helpers.model.engine import Disagreement, Engine, EngineError, EngineWarning
from helpers.model.features import FeatureError, open_store

SIZE, FEATURES = 16, 5
ENGINE, FAST = Engine("keras", "float32"), Engine("openvino", "bfloat16")
PROFILE = SimpleNamespace(engine="auto", precision="auto", workers=1)
BACKBONE = Backbone("Fake", "none", "0" * 16, SIZE, FEATURES, None)


def project(images):
    matrix = np.random.default_rng(0).normal(size=(SIZE * SIZE, FEATURES)).astype(np.float32)
    return np.stack([image.reshape(-1).astype(np.float32) @ matrix for image in images])


class FakeEngines(ExitStack):
    """Stands in for `helpers.model.engine` within `extract`."""

    def __init__(self, choices=(ENGINE,), wrong=(), run=project):
        super().__init__()
        self.choices, self.wrong, self.run, self.compiled = list(choices), wrong, run, []

    def compile(self, backbone, engine, *options):
        self.compiled.append(engine)
        return self.run

    def check(self, backbone, engine, run, images):
        if engine in self.wrong:
            raise Disagreement(backbone, engine, {"min_cosine": 0.99, "max_abs": 0.5, "images": len(images)})
        return {"min_cosine": 1.0, "max_abs": 0.5, "images": len(images)}

    def __enter__(self):
        fakes = {"candidates": lambda *asked: self.choices, "compile_backbone": self.compile, "BATCH": 4, "PART": 8}
        for name, value in (fakes | {"check_agreement": self.check}).items():
            self.enter_context(mock.patch.object(module, name, value))
        return self


@pytest.fixture(autouse=True)
def engines():
    with FakeEngines() as fake:
        yield fake


def catalogue_of(paths):
    frame = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(paths))], "path": [path.name for path in paths]})
    frame["digest"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return Catalogue("fake", paths[0].parent, frame.assign(label="A", patient_id="p", published_split="train"), ("A",))


def make_catalogue(folder, n, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(seed), [folder / f"{i:04d}.png" for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(path)
    return catalogue_of(paths)


def truth(catalogue):
    return project([np.asarray(Image.open(catalogue.file(path))) for path in catalogue.frame["path"]])


@pytest.fixture
def catalogue(tmp_path):
    return make_catalogue(tmp_path / "images", 21)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def count(path):
    return parquet.read_metadata(path).num_rows


def extract(catalogue, cache, backbone=BACKBONE):
    return module.extract(PROFILE, catalogue, backbone, cache)


def part_files(cache):
    return sorted(cache.glob("*/[0-9a-f]*.parquet"))


# --- what is computed ---


def test_features_stand_row_by_row_as_the_catalogue_and_a_second_run_computes_nothing(catalogue, cache, engines):
    made = extract(catalogue, cache)
    np.testing.assert_array_equal(made.features, truth(catalogue))
    assert made.features.dtype == np.float32 and not made.features.flags.writeable
    assert made.computed == 21 and made.seconds > 0 and made.agreement["min_cosine"] == 1
    assert [count(path) for path in part_files(cache)].count(8) == 2  # and one of 5
    again = extract(catalogue, cache)
    assert (again.computed, again.seconds, len(engines.compiled)) == (0, 0.0, 1)
    np.testing.assert_array_equal(again.features, made.features)
    np.testing.assert_array_equal(again.of(["i5", "i2"]), made.features[[5, 2]])
    assert (again.key, again.agreement) == (made.key, made.agreement)


def test_another_data_set_finds_the_images_it_shares_and_of_identical_images_one_is_computed(
    catalogue, cache, tmp_path
):
    extract(catalogue.subset(catalogue.frame[5:15]), cache)
    moved = make_catalogue(tmp_path / "elsewhere", 21)
    twice = pd.concat([moved.frame[::-1], moved.frame.assign(image_id=lambda f: f["image_id"] + "b")])
    made = extract(moved.subset(twice), cache)
    assert made.computed == 11
    np.testing.assert_array_equal(made.features, truth(moved.subset(twice)))


def test_pieces_are_computed_side_by_side_and_gathered(catalogue, cache):
    computed = [module.complete(PROFILE, catalogue, BACKBONE, cache, (number, 3))[2] for number in (3, 1)]
    assert computed == [7, 7]
    made = extract(catalogue, cache)
    assert made.computed == 7
    np.testing.assert_array_equal(made.features, truth(catalogue))


@pytest.mark.parametrize(("batch", "part"), [(1, 1), (64, 512), (3, 6)])
def test_batches_and_files_of_any_size_give_the_same_also_in_a_nameless_file(
    catalogue, cache, monkeypatch, batch, part
):
    for name, value in (("model.features.BATCH", batch), ("model.features.PART", part), ("data.images.IN_MEMORY", 0)):
        monkeypatch.setattr(f"helpers.{name}", value)
    made = extract(catalogue, cache)
    np.testing.assert_array_equal(made.features, truth(catalogue))
    assert isinstance(made.features, np.memmap) and not list(made.folder.glob("tmp*"))


def test_the_key_changes_with_all_that_features_depend_on(cache):
    other = lambda **change: open_store(cache, replace(BACKBONE, **change), ENGINE).key  # noqa: E731
    keys = [other(), other(name="Other"), other(weights_digest="1" * 16), other(image_size=32)]
    keys += [open_store(cache, BACKBONE, engine).key for engine in (FAST, Engine("openvino", "float32"))]
    with mock.patch.object(module, "code_digest", lambda name: "edited"):
        keys.append(other())
    with mock.patch.object(Engine, "version", "another"):
        keys.append(other())
    assert len(set(keys)) == len(keys)
    assert other(weights="the same, under another word") == keys[0]


# --- interruption and damage ---


def child(folder, cache, delay):
    command = [sys.executable, __file__, str(folder), str(cache), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_when_killed_midway_then_the_next_run_goes_on_and_gives_the_same(tmp_path, cache):
    catalogue = make_catalogue(tmp_path / "images", 40)
    process = child(catalogue.root, cache, 0.03)
    deadline = time.monotonic() + 60
    while len(part_files(cache)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was to be killed before it was done"
    process.stdout.close()
    kept = sum(count(path) for path in part_files(cache))
    torn = part_files(cache)[0].parent / ".0123-x7_abcd.parquet"  # as write_atomically names what a kill leaves
    torn.write_bytes(part_files(cache)[0].read_bytes()[:-30])
    os.utime(torn, (0, 0))  # a younger one may be another writer's
    made = extract(catalogue, cache)
    assert 16 <= kept < 40 and made.computed == 40 - kept and not torn.exists()
    np.testing.assert_array_equal(made.features, truth(catalogue))


def test_two_processes_do_not_do_the_same_work(tmp_path, cache):
    catalogue = make_catalogue(tmp_path / "images", 24)
    both = [child(catalogue.root, cache, 0.02) for _ in range(2)]
    assert sorted(int(process.communicate(timeout=60)[0]) for process in both) == [0, 24]


def test_a_damaged_file_is_an_error_that_names_it_and_what_to_do(catalogue, cache):
    extract(catalogue, cache)
    path = part_files(cache)[0]
    good = path.read_bytes()
    place = good.index(parquet.read_table(path)["features"].combine_chunks().flatten().to_numpy().tobytes())
    flipped = [good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :] for at in (place, place + 7)]
    for bad in (*flipped, b"", good[:10], good[:300], good[:-1]):
        path.write_bytes(bad)
        with pytest.raises(FeatureError, match=f"{path.name}.*delete it"):
            extract(catalogue, cache)
    path.unlink()
    np.testing.assert_array_equal(extract(catalogue, cache).features, truth(catalogue))


def test_an_image_broken_since_it_was_catalogued_is_named_and_earlier_files_stay(catalogue, cache):
    broken = catalogue.file("0017.png")
    good = broken.read_bytes()
    broken.write_bytes(good[:60])
    with mock.patch.object(module, "_sample", lambda c: c.subset(c.frame[:2])):
        with pytest.raises(UnreadableImage, match=r"0017\.png"):
            extract(catalogue, cache)
        broken.write_bytes(good)
        assert extract(catalogue, cache).computed == 5


def test_an_image_replaced_since_it_was_catalogued_is_named_and_not_stored(catalogue, cache):
    catalogue.file("0002.png").write_bytes(catalogue.file("0003.png").read_bytes())
    with pytest.raises(EngineError, match=r"0002\.png has changed"):
        extract(catalogue, cache)
    assert part_files(cache) == []


# --- engines that disagree ---


def test_when_an_engine_disagrees_then_the_next_is_used_and_every_run_warns(catalogue, cache):
    with FakeEngines(choices=(FAST, ENGINE), wrong=(FAST,)) as fake:
        for computed in (21, 0):
            with pytest.warns(EngineWarning, match=r"openvino in bfloat16 does not agree.*0\.99"):
                made = extract(catalogue, cache)
            assert (made.engine, made.precision, made.computed) == ("keras", "float32", computed)
        assert fake.compiled == [FAST, ENGINE]


def test_when_the_only_engine_disagrees_then_it_is_an_error_for_this_data_set_alone(catalogue, cache):
    few = catalogue.subset(catalogue.frame[:10])
    extract(few, cache)
    with FakeEngines(wrong=(ENGINE,)), pytest.raises(Disagreement, match="0.9999 or more"):
        extract(catalogue, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract(few, cache).computed == 0


# --- memory ---


def peak(catalogue, cache):
    tracemalloc.start()
    try:
        extract(catalogue, cache, replace(BACKBONE, image_size=256))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_stays_flat_however_many_images_there_are(tmp_path, cache):
    def read(path, size):  # 64 KiB an image
        return np.full((size, size), int(path.name[:4]) % 251, np.uint8)

    def brightness(images):
        return np.repeat(images.mean(axis=(1, 2), dtype=np.float32)[:, None], FEATURES, axis=1)

    few, many = (make_catalogue(tmp_path / str(n), n, seed=n) for n in (64, 640))
    with mock.patch.object(pixels, "read_square", read), FakeEngines(run=brightness):
        small, large = peak(few, cache), peak(many, cache)
    assert large - small < 4 * 2**20, "the pixels of the further 576 images are 36 MiB"


if __name__ == "__main__":
    read_now, delay = pixels.read_square, float(sys.argv[3])

    def read_slowly(path, size):
        time.sleep(delay)
        return read_now(path, size)

    pixels.read_square = read_slowly
    with FakeEngines():
        catalogue = catalogue_of(sorted(Path(sys.argv[1]).glob("*.png")))
        sys.stdout.write(str(extract(catalogue, Path(sys.argv[2])).computed))
