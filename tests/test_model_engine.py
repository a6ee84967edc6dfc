"""Which engine is chosen, and that what it gives is what Keras gives. One tiny network, real engines."""

import os
import subprocess
import sys

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from helpers.model import engine as engines  # noqa: E402
from helpers.model.backbones import Backbone, weights_digest  # noqa: E402
from helpers.model.engine import Disagreement, Engine, EngineError, EngineWarning, check_agreement  # noqa: E402
from helpers.model.finetune import features_of  # noqa: E402
from helpers.run import provenance  # noqa: E402

SIZE, FEATURES = 32, 6
KERAS = Engine("keras", "float32")


def tiny(seed=1):
    keras.utils.set_random_seed(seed)
    grey = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(grey)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(FEATURES, 3, activation="relu")(x)
    model = keras.Model(grey, keras.layers.GlobalAveragePooling2D()(x))
    return Backbone("Tiny", "none", weights_digest(model), SIZE, FEATURES, model)


@pytest.fixture(scope="module")
def backbone():
    return tiny()


@pytest.fixture(scope="module")
def images():
    values = np.random.default_rng(0).integers(0, 256, (11, SIZE, SIZE), dtype=np.uint8)
    return values // np.arange(1, 12, dtype=np.uint8)[:, None, None]  # of different brightness


@pytest.fixture
def machine(monkeypatch):
    def has(gpus=(), capabilities=("FP32",), driver=(), backend="tensorflow"):
        monkeypatch.setattr(engines, "usable_gpus", lambda: list(gpus))
        monkeypatch.setattr(provenance, "driver_gpus", lambda: list(driver))
        monkeypatch.setattr(engines, "openvino_capabilities", lambda: frozenset(capabilities))
        monkeypatch.setattr(engines, "_backend", lambda: backend)

    return has


# --- choosing ---


@pytest.mark.parametrize(
    ("has", "chosen"),
    [
        ({"gpus": ["H200"], "driver": ["H200"]}, Engine("keras", "float16")),
        ({"capabilities": ("FP32", "BF16", "FP16")}, Engine("openvino", "bfloat16")),
        ({"capabilities": ("FP32", "INT8")}, Engine("openvino", "float32")),
        ({"backend": "jax"}, KERAS),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_engine_follows_from_the_machine_without_a_warning(machine, has, chosen):
    machine(**has)
    assert engines.choose() == chosen


@pytest.mark.parametrize(
    ("has", "asked", "message"),
    [
        ({}, ("auto", "bfloat16"), "openvino can only imitate bfloat16"),
        ({}, ("keras", "bfloat16"), "keras can only imitate bfloat16"),
        ({"driver": ["H200"]}, ("auto", "auto"), "CUDA"),
    ],
)
def test_what_is_slower_than_it_could_be_warns(machine, has, asked, message):
    machine(**has)
    with pytest.warns(EngineWarning, match=message):
        engines.choose(*asked)


def test_what_a_machine_lacks_is_refused(machine, backbone):
    if "FP16" not in engines.openvino_capabilities():
        with pytest.raises(EngineError, match="in (f32|bf16), not float16"):
            engines.compile_backbone(backbone, Engine("openvino", "float16"))
    machine(backend="jax")
    with pytest.raises(EngineError, match="runs on jax"):
        engines.choose("keras", "float16")


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_bfloat16_is_not_used_where_the_user_has_taken_its_instructions_away(monkeypatch, backbone, variable):
    monkeypatch.setenv(variable, "avx2")  # OpenVINO would crash: it asks the processor alone
    code = "from helpers.model.engine import choose; assert choose('openvino').precision == 'float32'"
    # In a process of its own: oneDNN keeps the limit that it finds first, also for the tests that come after.
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(EngineError, match="no instructions for bfloat16"):
        engines.compile_backbone(backbone, Engine("openvino", "bfloat16"))


@pytest.mark.parametrize(
    ("asked", "plan"),
    [
        ((), "openvino in bfloat16, openvino in float32, keras in float32"),
        (("openvino",), "openvino in bfloat16, openvino in float32"),
        (("auto", "bfloat16"), "openvino in bfloat16"),
        (("keras", "float32"), "keras in float32"),
    ],
)
def test_only_what_was_left_open_is_fallen_back_on(machine, asked, plan):
    machine(capabilities=("BF16", "FP32"))
    assert ", ".join(map(str, engines.candidates(*asked))) == plan


# --- running ---


@pytest.mark.parametrize("name", ["openvino", "keras"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999999), ("bfloat16", 0.9999)])
def test_each_engine_gives_what_keras_gives_also_for_a_ragged_batch(backbone, images, name, precision, least):
    if (name, precision) == ("openvino", "bfloat16") and "BF16" not in engines.openvino_capabilities():
        pytest.skip("this CPU has no bfloat16 instructions, so OpenVINO may compute in float32 instead")
    engine = Engine(name, precision)
    run = engines.compile_backbone(backbone, engine, batch_size=4, workers=1)
    measured = check_agreement(backbone, engine, run, images)
    assert measured["min_cosine"] >= least and measured["images"] == len(images)
    assert (measured["max_abs"] > 1e-5) == (precision == "bfloat16")  # a reduced precision is really run
    whole = run(images)
    assert whole.dtype == np.float32 and whole.shape == (len(images), FEATURES)
    for part in (slice(0, 1), slice(3, 5), slice(4, 11)):  # no image's features depend on its neighbours
        np.testing.assert_array_equal(run(images[part]), whole[part])
    assert run(images[:0]).shape == (0, FEATURES)


@pytest.mark.parametrize(("fixed", "backend"), [(True, "tensorflow"), (False, "jax")])
def test_padded_batches_and_other_backends_give_the_same(machine, backbone, images, fixed, backend):
    machine(backend=backend)
    run = engines._compile_keras(backbone.model, "float32", 4, fixed=fixed)
    assert check_agreement(backbone, KERAS, run, images)["min_cosine"] > 0.9999999


@pytest.mark.parametrize("name", ["keras", "openvino"])
def test_a_model_of_several_inputs_and_one_shared_row_runs_on_each_engine(name):
    rows, shared = keras.Input((3,)), keras.Input(batch_shape=(1, 3))
    model = keras.Model([rows, shared], keras.layers.Dense(2)(keras.layers.Multiply()([rows, shared])))
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = (values * values[:1]) @ model.get_weights()[0]
    run = engines.compile_model(model, Engine(name, "float32"), batch_size=4)
    np.testing.assert_allclose(run(values, values[:1]), expected, rtol=1e-4, atol=1e-5)


# --- checking ---


@pytest.mark.parametrize("wrong", ["permuted", "noisy", "not finite", "other weights", "zeros", "zeros of one image"])
def test_a_wrong_engine_does_not_agree(backbone, images, wrong):
    right = engines.compile_backbone(backbone, KERAS)
    noise = np.random.default_rng(0).normal(1, 0.05, FEATURES).astype(np.float32)
    run = {
        "permuted": lambda x: right(x)[:, ::-1],
        "noisy": lambda x: right(x) * noise,
        "not finite": lambda x: np.where(np.arange(len(x))[:, None] == 7, np.nan, right(x)),
        "other weights": engines.compile_backbone(tiny(seed=2), KERAS),
        "zeros": lambda x: 0 * right(x),
        "zeros of one image": lambda x: np.where(np.arange(len(x))[:, None] == 7, 0, right(x)),
    }[wrong]
    found = "11 images is 0.000000" if wrong.startswith("zeros") else ""
    with pytest.raises(Disagreement, match=f"does not agree with Keras in float32.*{found}"):
        check_agreement(backbone, KERAS, run, images)


@pytest.mark.parametrize(("kept", "message"), [(0, "all zero"), (1, "all the same"), (np.nan, "not finite|all zero")])
def test_a_network_whose_features_do_not_vary_between_images_is_refused(images, kept, message):
    silent = tiny()
    weights = [np.zeros_like(one) for one in silent.model.get_weights()]
    silent.model.set_weights([*weights[:-1], np.full_like(weights[-1], kept)])  # the last layer's bias alone
    with pytest.raises(EngineError, match=message):
        check_agreement(silent, KERAS, engines.compile_backbone(silent, KERAS), images)
    with pytest.raises(EngineError, match=message):
        features_of(silent, images, np.arange(3))


def test_one_image_twice_may_have_the_same_features(backbone, images):
    check_agreement(backbone, KERAS, engines.compile_backbone(backbone, KERAS), images[[0, 0]])


def test_importing_openvino_leaves_nothing_in_the_home_folder(tmp_path):
    code = "from helpers.model.engine import load_openvino as load; load().Core(); import openvino.tools.ovc"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"HOME": str(tmp_path)}, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
