"""Which engine is chosen, and that what it gives is what Keras gives. One tiny network, real engines."""

import hashlib
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.model import engine as engines
from helpers.model.backbones import Backbone, weights_digest
from helpers.model.engine import Engine, EngineError, EngineWarning
from helpers.model.features import extract
from helpers.run import hardware

SIZE, FEATURES = 32, 6


def network(activation="relu", seed=1):
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    grey = keras.Input((SIZE, SIZE, 1))
    x = layers.Rescaling(1 / 127.5, -1.0)(grey)
    x = layers.Conv2D(4, 3, strides=2, use_bias=False, activation=activation)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(FEATURES, 3, activation=activation)(x)
    return keras.Model(grey, layers.GlobalAveragePooling2D()(x))


def as_backbone(model):
    return Backbone("Tiny", "none", weights_digest(model), SIZE, FEATURES, model)


@pytest.fixture(scope="module")
def backbone():
    return as_backbone(network())


@pytest.fixture(scope="module")
def images():
    values = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE), dtype=np.uint8)
    return values // np.arange(1, 12, dtype=np.uint8)[:, None, None]  # of different brightness


@pytest.fixture
def machine(monkeypatch):
    """Says what the machine has."""

    def has(gpus=(), capabilities=("FP32",), driver=()):
        monkeypatch.setattr(engines, "usable_gpus", lambda: list(gpus))
        monkeypatch.setattr(hardware, "driver_gpus", lambda: list(driver))
        monkeypatch.setattr(engines, "openvino_capabilities", lambda: frozenset(capabilities))

    return has


# --- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "name", "precision"),
    [
        ({"gpus": ["H200"], "driver": ["H200"]}, "keras", "float16"),
        ({"capabilities": ("FP32", "BF16")}, "openvino", "bfloat16"),
        ({"capabilities": ("FP32", "INT8")}, "openvino", "float32"),
    ],
)
def test_the_engine_follows_from_the_machine_without_a_warning(machine, has, name, precision):
    machine(**has)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = engines.choose()
    assert (chosen.name, chosen.precision) == (name, precision)
    assert chosen.reason and chosen.version


def test_when_bfloat16_can_only_be_imitated_then_a_warning_says_so(machine):
    machine(capabilities=("FP32",))
    with pytest.warns(EngineWarning, match="imitates"):
        assert engines.choose("auto", "bfloat16").precision == "bfloat16"
    with pytest.warns(EngineWarning, match="slower"):
        assert engines.choose("keras", "bfloat16").name == "keras"


def test_when_openvino_would_run_another_precision_then_it_is_refused(machine, backbone):
    machine(capabilities=("FP32", "BF16"))
    with pytest.raises(EngineError, match="float16.*would run float32"):
        engines.choose("openvino", "float16")
    if "FP16" not in engines.openvino_capabilities():
        with pytest.raises(EngineError, match="in (f32|bf16), not float16"):
            engines.compile_backbone(backbone, Engine("openvino", "float16", ""))


def test_when_the_driver_has_a_gpu_that_tensorflow_lacks_then_a_warning_says_so(machine):
    machine(driver=["H200"])
    with pytest.warns(EngineWarning, match="CUDA"):
        assert engines.choose().name == "openvino"


def test_only_what_was_left_open_is_fallen_back_on(machine):
    machine(capabilities=("BF16",))
    plan = lambda *asked: [(e.name, e.precision) for e in engines.candidates(*asked)]  # noqa: E731
    assert plan() == [("openvino", "bfloat16"), ("openvino", "float32"), ("keras", "float32")]
    assert plan("openvino") == [("openvino", "bfloat16"), ("openvino", "float32")]
    assert plan("auto", "bfloat16") == [("openvino", "bfloat16")]
    assert plan("keras", "float32") == [("keras", "float32")]


# --- running --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "precision", "least"),
    [
        ("openvino", "float32", 0.9999999),
        ("openvino", "bfloat16", 0.9999),
        ("keras", "float32", 0.9999999),
        ("keras", "bfloat16", 0.9999),
    ],
)
def test_each_engine_gives_what_keras_gives_also_for_a_ragged_batch(backbone, images, name, precision, least):
    run = engines.compile_backbone(backbone, Engine(name, precision, ""), batch_size=4, workers=1)
    measured = engines.agreement(backbone, run, images)
    assert measured["min_cosine"] >= least and measured["images"] == len(images)
    whole = run(images)
    assert whole.dtype == np.float32 and whole.shape == (len(images), FEATURES)
    for part in (slice(0, 1), slice(3, 5), slice(4, 11)):  # no image's features depend on its neighbours
        np.testing.assert_array_equal(run(images[part]), whole[part])
    assert run(images[:0]).shape == (0, FEATURES)


def test_reduced_precision_is_really_run(backbone, images):
    runs = [engines.compile_backbone(backbone, Engine("openvino", p, ""), workers=1) for p in ("float32", "bfloat16")]
    exact, rounded = (engines.agreement(backbone, run, images)["max_abs"] for run in runs)
    assert rounded > 20 * exact


def test_when_compiled_for_a_fixed_batch_then_padding_leaves_no_trace(backbone, images):
    run = engines._compile_keras(backbone.model, "float32", 4, pixels=True, fixed=True)
    assert engines.agreement(backbone, run, images)["min_cosine"] > 0.9999999


def test_on_another_backend_keras_runs_as_it_is_in_float32(machine, backbone, images, monkeypatch):
    machine(capabilities=("BF16",))
    monkeypatch.setattr(engines, "_other_backend", lambda: "jax")
    chosen = engines.choose()
    assert (chosen.name, chosen.precision) == ("keras", "float32")
    with pytest.raises(EngineError, match="jax"):
        engines.choose("keras", "float16")
    run = engines.compile_backbone(backbone, chosen, batch_size=4)
    assert engines.agreement(backbone, run, images)["min_cosine"] > 0.9999999


def test_a_model_of_several_inputs_and_one_shared_row_runs_on_each_engine():
    import keras

    rows, shared = keras.Input((3,)), keras.Input(batch_shape=(1, 3))
    model = keras.Model([rows, shared], keras.layers.Dense(2)(keras.layers.Multiply()([rows, shared])))
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = (values * values[:1]) @ model.get_weights()[0]
    for name in ("keras", "openvino"):
        run = engines.compile_model(model, Engine(name, "float32", ""), batch_size=4)
        np.testing.assert_allclose(run(values, values[:1]), expected, rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_features(backbone, images):
    engine = Engine("openvino", "float32", "")
    one, two = (engines.compile_backbone(backbone, engine, workers=threads)(images) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


# --- checking -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["permuted", "noisy", "not finite", "other weights"])
def test_a_wrong_engine_does_not_agree(backbone, images, wrong):
    right = engines.compile_backbone(backbone, Engine("keras", "float32", ""))
    rng = np.random.default_rng(0)
    run = {
        "permuted": lambda x: right(x)[:, ::-1],
        "noisy": lambda x: right(x) * rng.normal(1, 0.05, FEATURES).astype(np.float32),
        "not finite": lambda x: np.where(np.arange(len(x))[:, None] == 7, np.nan, right(x)),
        "other weights": engines.compile_backbone(as_backbone(network(seed=2)), Engine("keras", "float32", "")),
    }[wrong]
    assert engines.agrees(engines.agreement(backbone, right, images))
    assert not engines.agrees(engines.agreement(backbone, run, images))


def test_an_engine_of_another_width_is_refused(backbone, images):
    with pytest.raises(EngineError, match="features"):
        engines.agreement(backbone, lambda x: np.ones((len(x), FEATURES + 1), np.float32), images)


# --- end to end -----------------------------------------------------------------------------------------------------


def test_extracted_features_are_those_of_keras_predict(tmp_path, backbone):
    rng, rows = np.random.default_rng(3), []
    for i in range(9):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append((f"i{i}", path.name, "A", f"p{i}", "train", digest))
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest"]
    catalogue = Catalogue("tiny", tmp_path, pd.DataFrame(rows, columns=columns), ("A",))

    found = extract(catalogue, backbone, cache=tmp_path / "cache", workers=1, progress=False)

    pixels = np.stack([np.asarray(Image.open(tmp_path / row[1])) for row in rows])
    expected = backbone.model.predict(pixels[..., None].astype(np.float32), verbose=0)
    assert found.computed == 9 and found.agreement["min_cosine"] >= engines.AGREEMENT
    np.testing.assert_allclose(found.features, expected, atol=0.02 * np.abs(expected).max())


# --- the machine ----------------------------------------------------------------------------------------------------


def test_importing_openvino_leaves_nothing_in_the_home_folder(tmp_path):
    code = "from helpers.model.engine import load_openvino as load; load().Core(); import openvino.tools.ovc"
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def test_the_machine_is_described_in_words_and_numbers():
    machine = hardware.describe()
    assert {"cpu", "cores", "memory_gib", "instructions", "bfloat16_instructions", "gpus"} <= set(machine)
    assert 1 <= machine["cores"] <= os.cpu_count() and machine["gpus"]
    json.dumps(machine)


def test_instruction_sets_are_read_from_the_processor_s_own_list(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(hardware, "CPUINFO", info)
    info.write_text("model name\t: A CPU @ 2 GHz\nflags\t\t: fpu avx512f amx_bf16 other\n")
    assert hardware.cpu_model() == "A CPU @ 2 GHz"
    assert hardware.instructions() == {"avx512f", "amx_bf16"} and hardware.has_bf16()
    info.write_text("Features\t: fp asimdhp\n")
    assert hardware.instructions() == {"asimdhp"} and not hardware.has_bf16()
    info.unlink()
    assert hardware.instructions() == set() and hardware.cpu_model()
