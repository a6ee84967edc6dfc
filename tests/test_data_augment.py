"""Augmentation: upright variants that follow from a seed, an epoch and a row."""

import numpy as np
import pytest
from scipy import ndimage

from helpers.data.augment import LightAugmentation, Mirrored, light

RANDOM = np.random.default_rng(0)


def test_a_light_variant_keeps_the_shape_and_changes_with_each_epoch():
    smooth = [ndimage.gaussian_filter(RANDOM.integers(0, 256, (40, 30), np.uint8), 3) for _ in range(3)]
    pixels = np.stack(smooth)
    before = pixels.copy()
    source = LightAugmentation(pixels, seed=1)
    first = source.batch(0, [0, 1, 2])
    assert first.shape == pixels.shape and first.dtype == np.uint8 and len(source) == 3
    assert np.array_equal(source.batch(0, [2])[0], first[2]) and not np.array_equal(source.batch(1, [2])[0], first[2])
    assert np.array_equal(pixels, before)


def test_light_variants_stay_upright_and_are_mirrored_only_where_asked():
    image = np.zeros((64, 64), np.uint8)
    image[16:28, 34:46] = 200  # up and to the right
    rows, columns = np.indices(image.shape)

    def centres(mirror):
        variants = [light(image, np.random.default_rng(i), mirror).astype(float) + 1e-9 for i in range(60)]
        return np.array([[(rows * v).sum() / v.sum() - 31.5, (columns * v).sum() / v.sum() - 31.5] for v in variants])

    plain, mirrored = centres(False), centres(True)
    assert (plain[:, 0] < 0).all() and plain[:, 1].mean() == pytest.approx(8, abs=1.5)
    assert plain[:, 1].std() > 1 and 0.25 < (mirrored[:, 1] < 0).mean() < 0.75


def test_a_mirrored_image_has_its_own_pixels_in_order_or_reversed_by_epoch():
    pixels = np.random.default_rng(3).integers(0, 256, (40, 8, 9), dtype=np.uint8)
    source, before = Mirrored(pixels, seed=1), pixels.copy()
    first, again = source.batch(0, np.arange(40)), source.batch(1, np.arange(40))
    turned = [not np.array_equal(made, image) for made, image in zip(first, pixels, strict=True)]
    assert all(np.array_equal(first[k], pixels[k][:, ::-1] if turned[k] else pixels[k]) for k in range(40))
    assert 8 < sum(turned) < 32 and not np.array_equal(first, again)
    assert np.array_equal(source.batch(0, [7, 2]), first[[7, 2]])  # whatever the company
    assert np.array_equal(pixels, before) and len(source) == 40
