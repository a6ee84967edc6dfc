"""Occlusion maps: exact at every position, resumed, cached, and cheap where windows suffice."""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

from helpers.explain.classifier import from_head, from_model
from helpers.explain.occlusion import default_box, occlusion, positions, spread
from helpers.explain.occlusion_coarse import InterpolationWarning, coarse_to_fine
from helpers.explain.occlusion_difference import late
from helpers.explain.occlusion_plan import best_plan, cuts, make_plan, trace
from helpers.explain.occlusion_sweep import TRUST, Box, FullSweep, WindowSweep, occluded
from helpers.model.engine import EngineError

CLASSES = ("ill", "well", "other")
SIZE, SIDE = 37, 5


def network(*layers, size=SIZE, seed=3):
    """A tiny classifier with biases, odd sizes and a head strong enough for its probabilities to vary."""
    import keras

    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=6.0)
    inputs = keras.Input((size, size, 1))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return from_model(keras.Model(inputs, keras.layers.Dense(3, "softmax", kernel_initializer=normal)(x)), CLASSES)


def branching(x):
    """Every kind of layer that windows know: same and valid, strides, both pools, padding, add and concatenate."""
    from keras import layers

    x = layers.Conv2D(6, 3, 2, "same", activation="relu", bias_initializer="random_normal")(x)
    x = layers.BatchNormalization(beta_initializer="random_normal")(x)
    left = layers.Conv2D(6, 3, padding="same", bias_initializer="random_normal")(x)
    x = layers.Add()([x, layers.AveragePooling2D(3, 1, "same")(left)])
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = layers.DepthwiseConv2D(3, 2, "valid", bias_initializer="random_normal")(x)
    return layers.Concatenate()([layers.MaxPooling2D(3, 1)(x), layers.Conv2D(5, 3, activation="relu")(x)])


def summarised(size):
    """A classifier on averages, maxima and mean squares of two stages, as the small backbone's features are."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    inputs, pooled = keras.Input((size, size, 1)), []
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters in (6, 8):
        x = layers.Conv2D(filters, 3, 2, "same", bias_initializer="random_normal")(x)  # values below 0 as well
        square = layers.Multiply()([x, x])
        pooled += [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
        pooled += [layers.GlobalAveragePooling2D()(square)]
    return from_model(keras.Model(inputs, layers.Dense(3, "softmax")(layers.Concatenate()(pooled))), CLASSES)


@pytest.fixture(scope="module")
def tiny():
    return network(branching)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(5).integers(0, 256, (1, SIZE, SIZE)).astype(np.uint8)


def by_hand(classifier, image, starts, side, level):
    """Probabilities at every position, by blanking a copy of the image for each."""
    copies = []
    for top in starts:
        for left in starts:
            copy = image.astype(np.float32)
            copy[top : top + side, left : left + side] = level
            copies.append(copy)
    found = np.asarray(classifier.model(np.array(copies)[..., None], training=False))
    return found.reshape(len(starts), len(starts), -1)


@pytest.mark.parametrize("mode", ["windows", "full"])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_when_any_stride_is_swept_then_every_position_is_brute_forces(tiny, image, mode, stride):
    maps = occlusion(
        tiny, image, "ill", box=SIDE, fill=40, stride=stride, mode=mode, progress=False, precision="float32"
    )
    starts = maps.extra["starts"]
    expected = by_hand(tiny, image[0], starts, SIDE, 40)
    assert np.ptp(expected[..., 0]) > 0.01  # else anything would pass
    assert starts[0] == 0 and starts[-1] == SIZE - SIDE
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)
    unoccluded = np.asarray(tiny.model(image[..., None].astype(np.float32)))
    np.testing.assert_allclose(maps.extra["unoccluded"], unoccluded, atol=1e-5)
    drops = unoccluded[0, 0] - expected[..., 0]
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    assert maps.extra["peak"][0].tolist() == [starts[row] + SIDE // 2, starts[column] + SIDE // 2]


@pytest.mark.parametrize("size", [32, 33, 40, 47])
def test_when_the_image_has_any_size_then_windows_end_rightly_at_its_borders(size):
    classifier = network(branching, size=size)
    image = np.random.default_rng(size).integers(0, 256, (1, size, size)).astype(np.uint8)
    maps = occlusion(classifier, image, "well", box=SIDE, stride=3, mode="windows", progress=False, precision="float32")
    expected = by_hand(classifier, image[0], maps.extra["starts"], SIDE, 0)
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (33, 2), (37, 5)])  # blocks of many positions, and of few
def test_when_features_are_maxima_and_squares_then_all_is_windows_and_exact(size, stride):
    classifier = summarised(size)
    steps, plan = best_plan(classifier.model, SIDE)
    assert plan.last == len(steps) - 1 and plan.cost < 0.7 * plan.full
    image = np.random.default_rng(size).integers(0, 256, (1, size, size)).astype(np.uint8)
    maps = occlusion(
        classifier, image, "ill", box=SIDE, fill=90, stride=stride, mode="windows", progress=False, precision="float32"
    )
    expected = by_hand(classifier, image[0], maps.extra["starts"], SIDE, 90)
    assert np.ptp(expected[..., 0]) > 0.01
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)


def test_when_the_network_is_cut_anywhere_then_the_windows_are_still_exact(tiny, image, monkeypatch):
    from helpers.explain import occlusion_sweep

    steps = trace(tiny.model)
    for last in cuts(steps)[1::3]:
        plan = make_plan(steps, last, SIDE, 1, (0, 0))
        plan = make_plan(steps, last, SIDE, plan.stride, (0, 0))
        monkeypatch.setattr(occlusion_sweep, "best_plan", lambda model, side, plan=plan: (steps, plan))
        maps = occlusion(
            tiny, image, "ill", box=SIDE, stride=4, mode="windows", engine="keras", progress=False, precision="float32"
        )
        expected = by_hand(tiny, image[0], maps.extra["starts"], SIDE, 0)
        np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)


class Formula:
    """A sweep whose probabilities are a function of the position, and which counts how many it is asked for."""

    def __init__(self, function):
        self.function, self.asked = function, 0

    def at(self, box, corners):
        self.asked += len(corners)
        first = self.function(corners[:, 0], corners[:, 1])
        return np.stack([first, 1 - first], axis=1).astype(np.float32)


def test_when_probabilities_are_smooth_then_coarse_to_fine_skips_most_and_is_within_tolerance():
    sweep, box = Formula(lambda y, x: 0.5 + 0.001 * y - 0.0005 * x), Box(5, 0.0, positions(64, 5))
    found, told = coarse_to_fine(sweep, box, 4, 0.01)
    expected = Formula(sweep.function).at(box, np.argwhere(np.ones((60, 60)))).reshape(60, 60, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert told["skipped"] > 0.9 and told["error_max"] < 1e-6
    assert sweep.asked == round((1 - told["skipped"]) * 3600) and told["step"] == 4


def test_when_a_step_is_steep_then_it_is_computed_exactly():
    sweep, box = Formula(lambda y, x: np.where(y < 23, 0.2, 0.7)), Box(5, 0.0, positions(64, 5))
    found, told = coarse_to_fine(sweep, box, 4, 0.01)
    np.testing.assert_allclose(found[:, :, 0], np.where(np.arange(60)[:, None] < 23, 0.2, 0.7) * np.ones(60), atol=1e-6)
    assert 0.7 < told["skipped"] < 0.95


@pytest.mark.parametrize("period", [4, 2])
def test_when_probabilities_are_rough_between_the_knots_then_it_refines_and_warns_by_how_much(period):
    rough = Formula(lambda y, x: 0.5 + 0.1 * (y % period == period - 1))
    expected = rough.at(None, np.argwhere(np.ones((61, 61)))).reshape(61, 61, 2)
    with pytest.warns(InterpolationWarning, match="0.100 off"):
        found, told = coarse_to_fine(rough, Box(5, 0.0, positions(65, 5)), 4, 0.01)
    assert told["step"] == 1 and told["skipped"] == 0 and told["error_max"] == 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_when_a_finer_grid_suffices_then_it_stops_there_and_says_so():
    bumps = Formula(lambda y, x: 0.5 + 0.1 * (y > 32) * np.abs((y + 4) % 8 - 4) / 4)
    expected = bumps.at(None, np.argwhere(np.ones((65, 65)))).reshape(65, 65, 2)
    with pytest.warns(InterpolationWarning, match="refined to every 4. position"):
        found, told = coarse_to_fine(bumps, Box(5, 0.0, positions(69, 5)), 8, 0.06)  # flat above row 32
    assert told["step"] == 4 and 0.4 < told["skipped"] < 0.5 and told["error_max"] <= 0.06
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_when_a_map_is_skipped_in_part_then_it_equals_the_exact_one_within_the_tolerance(tiny, image):
    settings = {"box": SIDE, "progress": False, "precision": "float32"}
    exact = occlusion(tiny, image, "ill", **settings).extra["probabilities"]
    span = float(np.ptp(exact))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)
        maps = occlusion(tiny, image, "ill", coarse=4, tolerance=0.2 * span, **settings)
    told = maps.extra["told"][0]
    assert told["error_max"] <= 0.2 * span
    wrong = np.abs(maps.extra["probabilities"] - exact).max(axis=-1) > 0.2 * span
    assert wrong.mean() <= 0.05 * told["skipped"]


def test_when_a_map_is_coarse_then_it_says_what_was_skipped(tiny, image, tmp_path):
    settings = {
        "box": SIDE,
        "coarse": 3,
        "tolerance": 0.5,
        "cache": tmp_path,
        "progress": False,
        "precision": "float32",
    }
    maps = [occlusion(tiny, image, "ill", **settings) for _ in range(2)]  # the second from the cache
    assert maps[0].extra["told"] == maps[1].extra["told"]
    assert 0 < maps[0].extra["told"][0]["skipped"] < 1
    expected = by_hand(tiny, image[0], maps[0].extra["starts"], SIDE, 0)
    np.testing.assert_allclose(maps[0].extra["probabilities"][0, ::3, ::3], expected[::3, ::3], atol=1e-5)


def residual(x):
    """Layers whose differences are known, after a few that windows suit: as in MobileNetV2 and InceptionV3."""
    from keras import layers

    for filters, stride in ((8, 2), (12, 2)):
        x = layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization(beta_initializer="random_normal")(x)
        x = layers.ReLU(6.0)(x)
    left = layers.DepthwiseConv2D(7, padding="same", bias_initializer="random_normal")(x)
    left = layers.ReLU(6.0)(layers.BatchNormalization(moving_mean_initializer="random_normal")(left))
    x = layers.Add()([x, layers.Conv2D(12, 7, padding="same")(left)])
    x = layers.Activation("relu")(layers.Conv2D(24, 7, padding="same", bias_initializer="random_normal")(x))
    return layers.Concatenate()([layers.MaxPooling2D(3, 2)(x), layers.AveragePooling2D(3, 2)(x)])


def test_when_late_layers_see_differences_then_in_float32_they_give_the_networks_own_values(image):
    import keras

    classifier = network(residual)
    steps = trace(classifier.model)
    boxes = occluded(image[0], Box(SIDE, 0.0, None), np.array([[0, 0], [10, 20], [32, 32], [17, 3]]))
    expected = np.asarray(classifier.model(boxes, training=False))
    checked = 0
    for last in cuts(steps)[1:]:
        if (parts := late(steps, last)) is None:
            continue
        before = keras.Model(classifier.model.inputs[0], steps[last].tensor)
        base = before(image[..., None].astype(np.float32))
        *known, pooled = parts.known(base)
        found = parts.tail(pooled + parts.model([before(boxes) - base, *known]))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        checked += 1
    assert checked > 5 and np.ptp(expected[:, 0]) > 0.01


def test_when_precision_is_reduced_then_differences_are_far_nearer_than_values(image, monkeypatch):
    from helpers.explain import occlusion_rest

    classifier, box = network(residual, size=96), Box(9, 0.0, np.arange(88))
    picture = np.kron(np.random.default_rng(1).integers(40, 216, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    corners = np.random.default_rng(2).integers(0, 88, (64, 2))
    expected = np.asarray(classifier.model(occluded(picture, box, corners), training=False))
    assert best_plan(classifier.model, 9)[1].last < len(trace(classifier.model)) - 1

    def off():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where this processor imitates bfloat16
            sweep = WindowSweep(classifier, 9, "openvino", "bfloat16", trust=1.0)
        sweep.image(picture)
        return np.abs(sweep.at(box, corners) - expected).max()

    differences = off()
    monkeypatch.setattr(occlusion_rest, "late", lambda steps, last: None)
    assert differences < TRUST and differences < 0.3 * off()


def test_when_an_engine_is_off_on_an_image_then_the_next_is_taken_and_a_warning_says_by_how_much(tiny, image):
    from helpers.explain import occlusion_sweep
    from helpers.model.engine import Engine, EngineWarning

    engines = [Engine("openvino", "bfloat16", ""), Engine("openvino", "float32", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occlusion_sweep, "candidates", lambda *asked: engines)
        sweep = FullSweep(tiny, SIDE, trust=1e-4)
        with pytest.warns(EngineWarning, match="bfloat16 is .* off Keras"):
            sweep.image(image[0])
    assert sweep.engine.precision == "float32"
    strict = FullSweep(tiny, SIDE, "openvino", "float32", trust=-1.0)
    with pytest.warns(EngineWarning), pytest.raises(EngineError, match="no engine"):
        strict.image(image[0])


def test_when_nothing_is_asked_for_then_probabilities_are_within_what_is_trusted(image):
    classifier = network(residual)
    maps = occlusion(classifier, image, "ill", box=SIDE, stride=2, progress=False)
    expected = by_hand(classifier, image[0], maps.extra["starts"], SIDE, 0)
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=2 * TRUST)


def test_when_a_layer_is_unknown_then_the_cut_lies_before_it(image):
    from keras import layers

    classifier = network(layers.Conv2D(8, 3, 2, activation="relu"), layers.UpSampling2D(2))
    steps, plan = best_plan(classifier.model, SIDE)
    assert plan is None or steps[plan.last + 1].kind == "other"
    maps = occlusion(classifier, image, "ill", box=SIDE, stride=5, progress=False, precision="float32")
    expected = by_hand(classifier, image[0], maps.extra["starts"], SIDE, 0)
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)


def test_when_a_map_is_spread_then_a_pixel_is_the_mean_over_the_boxes_that_cover_it():
    starts = positions(11, 4, 3)
    drops = np.random.default_rng(0).normal(size=(len(starts), len(starts)))
    found = spread(drops, starts, 4, 11)
    for row, column in np.ndindex(11, 11):
        rows = [a for a, top in enumerate(starts) if top <= row < top + 4]
        columns = [b for b, left in enumerate(starts) if left <= column < left + 4]
        assert found[row, column] == pytest.approx(drops[np.ix_(rows, columns)].mean(), abs=1e-6)


def test_when_the_image_has_299_pixels_then_the_papers_box_has_its_positions():
    assert default_box(299) == 20
    assert len(positions(299, 20)) ** 2 == 78_400
    assert default_box(128) == 9


def test_when_a_map_is_in_the_cache_then_nothing_is_computed(tiny, image, tmp_path, monkeypatch):
    first = occlusion(tiny, image, "ill", box=SIDE, stride=4, cache=tmp_path, progress=False, precision="float32")
    monkeypatch.setattr("helpers.explain.occlusion.make_sweep", None)
    again = occlusion(tiny, image, "well", box=SIDE, stride=4, cache=tmp_path, progress=False, precision="float32")
    np.testing.assert_array_equal(first.extra["probabilities"], again.extra["probabilities"])
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(TypeError):  # another fill is another map
        occlusion(
            tiny, image, "ill", box=SIDE, stride=4, fill="mean", cache=tmp_path, progress=False, precision="float32"
        )


def test_when_a_map_was_interrupted_then_its_rows_are_not_made_again(tiny, image, tmp_path, monkeypatch):
    band, calls = FullSweep.band, []

    def broken(self, box, rows):
        calls.append(rows[0])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return band(self, box, rows)

    settings = {"box": SIDE, "stride": 2, "mode": "full", "cache": tmp_path, "progress": False, "precision": "float32"}
    monkeypatch.setattr(FullSweep, "band", broken)
    with pytest.raises(KeyboardInterrupt):
        occlusion(tiny, image, "ill", **settings)
    resumed = occlusion(tiny, image, "ill", **settings)
    assert calls == sorted(calls[:2]) + [calls[2]] + calls[3:] and calls[3] == calls[2]
    expected = by_hand(tiny, image[0], resumed.extra["starts"], SIDE, 0)
    np.testing.assert_allclose(resumed.extra["probabilities"][0], expected, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1


def test_when_the_cache_is_damaged_then_it_says_which_file(tiny, image, tmp_path):
    occlusion(tiny, image, "ill", box=SIDE, stride=5, cache=tmp_path, progress=False, precision="float32")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=file.name):
        occlusion(tiny, image, "ill", box=SIDE, stride=5, cache=tmp_path, progress=False, precision="float32")


def test_when_settings_do_not_fit_then_they_are_refused(tiny, image):
    for settings in ({"box": 99}, {"stride": 9}, {"fill": "pink"}, {"fill": 300}, {"mode": "fast"}):
        with pytest.raises(ValueError):
            occlusion(tiny, image, "ill", **({"box": SIDE, "progress": False, "precision": "float32"} | settings))
    with pytest.raises(ValueError, match="did you mean ill"):
        occlusion(tiny, image, "il", progress=False, precision="float32")
    with pytest.raises(ValueError, match="uint8"):
        occlusion(tiny, image / 255, "ill", progress=False, precision="float32")


def test_when_a_head_is_put_on_a_backbone_then_probabilities_are_the_heads():
    from helpers.model.backbones import load_backbone
    from helpers.model.head import Head

    backbone = load_backbone("SmallNet", "none", 32)
    random = np.random.default_rng(0)
    kernel = random.normal(size=(backbone.features, 3)).astype(np.float32)
    head = Head(CLASSES, kernel, np.array([0.1, 0.2, 0.3], np.float32), 0, 0.0)
    classifier = from_head(backbone, head)
    images = random.integers(0, 256, (5, 32, 32)).astype(np.uint8)
    expected = head.predict(np.asarray(backbone.model(images[..., None].astype(np.float32), training=False)))
    np.testing.assert_allclose(classifier.predictor()(images), expected, atol=1e-5)
    again = from_model(classifier.model, CLASSES)
    assert again.key == classifier.key
    logits = np.asarray(again.logits_model(images[..., None].astype(np.float32)))
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(exponents / exponents.sum(axis=1, keepdims=True), expected, atol=1e-5)


def test_when_the_network_is_one_that_was_fine_tuned_then_its_maps_are_brute_forces():
    from helpers.explain.gradients import gradient
    from helpers.model.backbones import load_backbone
    from helpers.model.finetune_network import assemble

    _, network = assemble(load_backbone("SmallNet", "none", 32), len(CLASSES))  # as a fine-tuned run's `model` is
    *others, kernel, bias = network.get_weights()
    network.set_weights([*others, 3 * kernel, bias])
    classifier = from_model(network, CLASSES)
    image = np.random.default_rng(8).integers(0, 256, (1, 32, 32)).astype(np.uint8)
    maps = occlusion(classifier, image, "ill", box=SIDE, stride=3, mode="windows", progress=False, precision="float32")
    expected = by_hand(classifier, image[0], maps.extra["starts"], SIDE, 0)
    assert np.ptp(expected[..., 0]) > 0.001
    np.testing.assert_allclose(maps.extra["probabilities"][0], expected, atol=1e-5)
    assert gradient(classifier, image, "ill").maps.max() > 0


def test_when_a_model_ends_in_no_softmax_then_it_is_refused():
    import keras

    inputs = keras.Input((32, 32, 1))
    flat = keras.layers.GlobalAveragePooling2D()(inputs)
    with pytest.raises(ValueError, match="softmax"):
        from_model(keras.Model(inputs, keras.layers.Dense(3)(flat)), CLASSES)
