"""Figure 6's transformed images are what their headings say."""

import numpy as np
import pytest

from helpers.rajkomar.robustness import TRANSFORMS, transformed

RANDOM = np.random.default_rng(0)
SMOOTH = np.repeat(np.repeat(RANDOM.integers(20, 200, (8, 8), dtype=np.uint8), 16, 0), 16, 1)
LABELED, TURNED, COVERED, CROP = list(TRANSFORMS)[1:]


def test_the_headings_are_the_papers():
    assert list(TRANSFORMS) == [
        "Original",
        "Labeled",
        "Rotated 45°, zoomed 1.5x",
        "Top half obscured",
        "Top left crop",
    ]


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(128, 128), (65, 65), (40, 90)])
def test_shape_and_type_stay_and_the_image_is_left_alone(name, shape):
    image = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    made = TRANSFORMS[name](image)
    assert made.shape == shape and made.dtype == np.uint8 and not np.may_share_memory(made, image)
    assert np.array_equal(image, before) and np.array_equal(made, image) == (name == "Original")


def test_labels_are_white_words_and_change_nothing_else():
    made = TRANSFORMS[LABELED](SMOOTH)
    changed = made != SMOOTH
    assert 0.01 < changed.mean() < 0.12 and made[changed].max() == 255 and (made >= SMOOTH).all()
    halves = [changed[:64].any(), changed[64:].any(), changed[:, :64].any(), changed[:, 64:].any()]
    assert all(halves)


def test_the_turn_is_45_degrees_and_the_zoom_one_and_a_half():
    spot = np.zeros((121, 121), np.uint8)
    spot[58:63, 78:83] = 255  # 20 pixels to the right of the centre
    made = TRANSFORMS[TURNED](spot).astype(float)
    rows, columns = np.indices(spot.shape)
    up, right = 60 - (rows * made).sum() / made.sum(), (columns * made).sum() / made.sum() - 60
    assert np.degrees(np.arctan2(up, right)) == pytest.approx(45, abs=1)
    assert np.hypot(up, right) == pytest.approx(30, abs=0.6)


def test_no_black_corner_comes_in_with_the_turn():
    assert TRANSFORMS[TURNED](np.full((128, 128), 90, np.uint8)).min() == 90


def test_the_top_half_is_black_and_the_rest_untouched():
    made = TRANSFORMS[COVERED](SMOOTH)
    assert not made[:64].any() and np.array_equal(made[64:], SMOOTH[64:])


def test_the_crop_is_the_upper_left_quarter():
    image = SMOOTH.copy()
    image[:64, :64] = 7
    assert (TRANSFORMS[CROP](image) == 7).all()
    assert (TRANSFORMS[CROP](SMOOTH)[1::32, 1::32] == SMOOTH[:64:16, :64:16]).all()


def test_a_whole_set_is_transformed_one_by_one():
    pixels = np.stack([SMOOTH, SMOOTH.T])
    assert np.array_equal(transformed(pixels, CROP)[1], TRANSFORMS[CROP](np.ascontiguousarray(SMOOTH.T)))


def test_an_unknown_heading_or_shape_is_refused():
    with pytest.raises(ValueError, match="Top left crop"):
        transformed(SMOOTH[None], "Upside down")
    with pytest.raises(ValueError, match="uint8"):
        transformed(SMOOTH, CROP)
