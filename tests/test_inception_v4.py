"""Inception-v4: layer by layer against the paper's figures, its parameters, and its place among the backbones."""

import re

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from helpers.model.architectures import BLOCKS, inception_v4, inception_v4_features  # noqa: E402
from helpers.model.backbones import BackboneError, load_backbone  # noqa: E402
from helpers.model.engine import Engine, agreement, agrees, compile_backbone  # noqa: E402

# Szegedy 2017, figures 3 to 9 for an image of 299 pixels: each block, how often it comes, its output, and its paths in
# the order of concatenation. A step is kernel (rows x columns), filters, /2 for stride 2, V where the figure says so:
# not padded; a fork stands in brackets. An arrow leads to what the released network has where the figure differs.
FIGURES = """
stem_1 1 149x149x32
  3x3 32 /2 V
stem_2 1 147x147x32
  3x3 32 V
stem_3 1 147x147x64
  3x3 64
stem_4 1 73x73x160
  max 3x3 /2 V
  3x3 96 /2 V
stem_5 1 71x71x192
  1x1 64 + 3x3 96 V
  1x1 64 + 7x1 64 + 1x7 64 + 3x3 96 V  ->  1x1 64 + 1x7 64 + 7x1 64 + 3x3 96 V
stem_6 1 35x35x384
  3x3 192 V                            ->  3x3 192 /2 V
  max 3x3 /2 V
inception_a 4 35x35x384
  1x1 96
  1x1 64 + 3x3 96
  1x1 64 + 3x3 96 + 3x3 96
  avg 3x3 + 1x1 96
reduction_a 1 17x17x1024
  3x3 384 /2 V
  1x1 192 + 3x3 224 + 3x3 256 /2 V
  max 3x3 /2 V
inception_b 7 17x17x1024
  1x1 384
  1x1 192 + 1x7 224 + 1x7 256          ->  1x1 192 + 1x7 224 + 7x1 256
  1x1 192 + 1x7 192 + 7x1 224 + 1x7 224 + 7x1 256  ->  1x1 192 + 7x1 192 + 1x7 224 + 7x1 224 + 1x7 256
  avg 3x3 + 1x1 128
reduction_b 1 8x8x1536
  1x1 192 + 3x3 192 /2 V
  1x1 256 + 1x7 256 + 7x1 320 + 3x3 320 /2 V
  max 3x3 /2 V
inception_c 3 8x8x1536
  1x1 256
  1x1 384 + [1x3 256 | 3x1 256]
  1x1 384 + 1x3 448 + 3x1 512 + [1x3 256 | 3x1 256]  ->  1x1 384 + 3x1 448 + 1x3 512 + [1x3 256 | 3x1 256]
  avg 3x3 + 1x1 256
"""


def described() -> list[tuple[str, tuple[int, ...], list[str]]]:
    """FIGURES as released: every block's name, output (height, width, channels) and paths."""
    found = []
    for block in re.split(r"\n(?=\S)", FIGURES.strip()):
        head, *paths = block.splitlines()
        name, times, output = head.split()
        names = [f"{name}{i + 1}" for i in range(int(times))] if int(times) > 1 else [name]
        shape = tuple(int(side) for side in output.split("x"))
        found += [(each, shape, [path.split("->")[-1].strip() for path in paths]) for each in names]
    return found


def steps_of(path: str) -> list[tuple[int, int, int, str]]:
    """(rows, columns, filters, how) for every convolution of a path; how is '', 'V' or '/2 V'."""
    return [
        (int(r), int(c), int(n), how.strip()) for r, c, n, how in re.findall(r"(\d)x(\d) (\d+)((?: /2)?(?: V)?)", path)
    ]


GREY = np.random.default_rng(0).uniform(0, 255, (2, 75, 75, 1)).astype(np.float32)
DESCRIBED = described()


@pytest.fixture(scope="module")
def network():
    return inception_v4(1000)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("InceptionV4", "none", 75, seed=1)


def made_by(tensor):
    return tensor._keras_history.operation


def step(layer) -> str:
    """A layer as a figure would write it."""
    if isinstance(layer, keras.layers.AveragePooling2D):
        assert (layer.strides, layer.padding) == ((1, 1), "same")
        return "avg {}x{}".format(*layer.pool_size)
    size, filters = (layer.kernel_size, layer.filters) if hasattr(layer, "filters") else (layer.pool_size, "max")
    assert layer.strides[0] == layer.strides[1]
    text = "{}x{}".format(*size)
    text = f"max {text}" if filters == "max" else f"{text} {filters}"
    return text + (" /2" if layer.strides[0] == 2 else "") + (" V" if layer.padding == "valid" else "")


def chain(tensor, start) -> list[str]:
    """The steps from `start` to `tensor`; every convolution must be followed by its normalisation and a ReLU."""
    found = []
    while tensor is not start:
        layer = made_by(tensor)
        if isinstance(layer, keras.layers.Activation):
            assert layer.activation is keras.activations.relu
            normalisation = made_by(layer.input)
            assert isinstance(normalisation, keras.layers.BatchNormalization) and normalisation.epsilon == 1e-3
            layer = made_by(normalisation.input)
            assert isinstance(layer, keras.layers.Conv2D) and not layer.use_bias and layer.dilation_rate == (1, 1)
            assert layer.groups == 1 and layer.activation is keras.activations.linear
        found.append(step(layer))
        tensor = layer.input
    return found[::-1]


def spread(path: str) -> list[str]:
    """A path with a fork as the two paths that it stands for."""
    before, _, fork = path.partition("[")
    return [before + end.strip() for end in fork.rstrip("]").split("|")] if fork else [path]


def test_every_block_has_the_figures_paths_kernel_by_kernel(network):
    start = network.input
    for name, shape, paths in DESCRIBED:
        end = network.get_layer(name if len(paths) > 1 else f"{name}_relu").output
        ends = made_by(end).input if len(paths) > 1 else [end]
        assert [" + ".join(chain(one, start)) for one in ends] == [one for path in paths for one in spread(path)], name
        assert end.shape == (None, *shape), name
        start = end
    assert isinstance(made_by(network.get_layer("average").output), keras.layers.GlobalAveragePooling2D)
    assert network.get_layer("average").input is start
    assert network.get_layer("average").output.shape == (None, 1536)


def test_there_are_149_convolutions_in_22_blocks(network):
    counted = [len(steps_of(path)) for _, _, paths in DESCRIBED for path in paths]
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert sum(counted) == len(convolutions) == 149  # 11 + 4 x 7 + 4 + 7 x 10 + 6 + 3 x 10
    assert [name for name, _, _ in DESCRIBED] == list(BLOCKS) and len(BLOCKS) == 22


def by_hand() -> tuple[int, int]:
    """What learns (kernels, and two numbers a filter for its normalisation) and filters in all, from FIGURES alone."""
    learnt, filters, size, given = 0, 0, 299, 3
    for _, shape, paths in DESCRIBED:
        ends = 0
        for path in paths:
            channels, grid = given, size
            steps = steps_of(path)
            for place, (rows, columns, count, how) in enumerate(steps):
                into = steps[place - 2][2] if "|" in path and place == len(steps) - 1 else channels  # the fork's second
                learnt, filters = learnt + rows * columns * into * count + 2 * count, filters + count
                grid = (grid - rows) // (2 if "/2" in how else 1) + 1 if "V" in how else grid
                channels = count
            ends += 2 * channels if "|" in path else channels
            assert not steps or grid == shape[0], path
        size, given = shape[0], ends
        assert given == shape[2]
    return learnt, filters


def test_the_parameters_are_as_many_as_in_the_published_network(network, backbone):
    learnt, filters = by_hand()
    assert learnt == 41_142_816 and filters == 31_584
    assert learnt + (1536 + 1) * 1000 == 42_679_816  # what timm gives for inception_v4
    trained = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert trained == 42_679_816 and network.count_params() == trained + 2 * filters  # and the moving averages
    assert backbone.model.count_params() == learnt + 2 * filters
    assert len(backbone.model.weights) == 149 * 5


def test_the_average_leaves_the_padding_out(backbone):
    pool = backbone.model.get_layer("inception_a1_branch3_0")
    assert np.asarray(pool(np.ones((1, 5, 5, 1), np.float32))) == pytest.approx(1)


def test_as_a_backbone_it_takes_grey_and_scales_it_to_minus_1_to_1(backbone):
    image = keras.Input((75, 75, 3))
    bare = keras.Model(image, inception_v4_features(image))
    bare.set_weights(backbone.model.get_weights())
    assert (backbone.features, backbone.image_size) == (1536, 75)
    expected = bare(GREY.repeat(3, -1) / 127.5 - 1)
    given = np.asarray(backbone.model(GREY))
    assert given.dtype == np.float32 and np.ptp(given, axis=0).max() > 0
    np.testing.assert_allclose(given, np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_75_pixels_are_the_least():
    with pytest.raises(BackboneError, match="InceptionV4 needs images of 75 pixels a side or more, not 74"):
        load_backbone("InceptionV4", "none", 74)


def test_without_imagenet_weights_it_says_how_to_get_them_and_what_is_nearest():
    with pytest.raises(BackboneError, match="tools.convert inception_v4.*backbone=InceptionV3.*weights=none"):
        load_backbone("InceptionV4", "imagenet", 75)


def test_openvino_runs_it_as_keras_does(backbone):
    engine = Engine("openvino", "float32", "a test")
    images = GREY[..., 0].astype(np.uint8)
    assert agrees(agreement(backbone, compile_backbone(backbone, engine, workers=1), images))
