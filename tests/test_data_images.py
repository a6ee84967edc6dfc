"""Pixels: any image format becomes uint8 grey, what cannot be read says why, and batches come in order."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image
from tiny_data import face, pictured

from helpers.data.images import (
    UnreadableImage,
    average_hash,
    batches,
    choose_examples,
    read_examples,
    read_grey,
    read_square,
)
from helpers.data.scan import examine

GREY = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (48, 1))  # (48, 64), dark left, bright right
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"  # a program, to be refused


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def numbered(folder, count):
    return pictured(folder, [("train", "A", f"p{i}", np.full((20, 30), i, np.uint8)) for i in range(count)])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_any_mode_becomes_the_same_grey_whatever_the_file_is_called(tmp_path, mode):
    grey = np.where(GREY > 127, 255, 0).astype(np.uint8) if mode == "1" else GREY
    colour = Image.fromarray(grey).convert("RGB")
    image = colour.quantize(256) if mode == "P" else colour.convert(mode)
    made = read_grey(saved(tmp_path, image, "image.jpeg", format="TIFF"))
    assert np.abs(made.astype(int) - grey).max() <= 3 and (mode != "L" or np.array_equal(made, grey))


def test_colour_is_weighed_as_luma_and_transparent_parts_are_black(tmp_path):
    assert np.all(read_grey(saved(tmp_path, Image.new("RGB", (16, 16), (0, 255, 0)))) == 150)  # 0.587 of 255
    colour = np.full((16, 16, 4), 255, np.uint8)
    colour[:, 8:, 3] = 0
    grey = read_grey(saved(tmp_path, Image.fromarray(colour)))
    assert np.all(grey[:, :8] == 255) and np.all(grey[:, 8:] == 0)


@pytest.mark.parametrize(("suffix", "orientation"), [("jpeg", 3), ("jpeg", 6), ("png", 5), ("tiff", 8), ("webp", 7)])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    path = saved(tmp_path, Image.fromarray(GREY), f"image.{suffix}", exif=tags)
    turned = {3: GREY[::-1, ::-1], 5: GREY.T, 6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}
    made, facts = read_grey(path), examine(path)
    assert made.shape == (facts[2], facts[1]) == turned[orientation].shape and facts[-1] == ""
    assert np.abs(made.astype(int) - turned[orientation]).max() <= 4
    square = np.asarray(Image.fromarray(made).resize((16, 16), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read_square(path, 16) - square).max() <= 4


@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.uint16) * 257,
        np.round(GREY / 255 * 4095).astype(np.uint16),  # 12 bits stored in 16
        (GREY / 255 - 0.5).astype(np.float32),
        (GREY * 1000.0).astype(np.float32),
    ],
)
def test_deep_and_floating_point_pixels_use_the_whole_range(tmp_path, values):
    made = read_grey(saved(tmp_path, Image.fromarray(values), "image.tiff"))
    assert np.abs(made.astype(int) - GREY).max() <= (values.dtype == np.float32)


@pytest.mark.parametrize(("suffix", "options"), [("jpeg", {}), ("jpeg", {"progressive": True}), ("png", {})])
@pytest.mark.parametrize("read", [read_grey, lambda path: read_square(path, 8)])
def test_when_a_file_is_cut_it_is_refused(tmp_path, suffix, options, read):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), f"image.{suffix}", **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=str(path)) as caught:
        read(path)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"<html>404</html>", "not an image"),
        (EPS, "not an image"),
        (None, "cannot be opened: No such file or directory"),
    ],
)
def test_when_a_file_is_no_image_the_reason_says_so(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "image.jpeg").write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_grey(tmp_path / "image.jpeg")
    assert caught.value.reason == reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [3, 8_100, 10_000, 60_000])  # an icon; beyond our limit, Pillow's warning, its error
def test_an_icon_and_a_decompression_bomb_are_refused_before_they_are_decoded(tmp_path, side):
    path = saved(tmp_path, Image.new("L", (16, 16)))
    png = bytearray(path.read_bytes())
    png[16:24] = struct.pack(">II", side, side)  # the size in the header, and its checksum
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    path.write_bytes(png)
    with pytest.raises(UnreadableImage, match="too small" if side == 3 else "more than 64,000,000 pixels"):
        read_grey(path)


def test_squares_are_squashed_and_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    large = Image.fromarray(face(1)).resize((1024, 768), Image.Resampling.BICUBIC)
    quick = read_square(saved(tmp_path, large, "image.jpeg", quality=95), 64)
    whole = large.resize((64, 64), Image.Resampling.BILINEAR)
    assert quick.shape == (64, 64) and np.abs(quick.astype(int) - np.asarray(whole)).mean() < 1


# --- batches ---


@pytest.mark.parametrize(("count", "batch", "workers"), [(17, 5, 1), (17, 5, 4), (3, 8, 2)])
def test_batches_come_in_order_whatever_the_number_of_threads(tmp_path, count, batch, workers):
    catalogue = numbered(tmp_path, count)
    made = list(batches(catalogue, 16, batch, workers))
    assert [rows for rows, _ in made] == [slice(k, min(k + batch, count)) for k in range(0, count, batch)]
    stack = np.concatenate([images for _, images in made])
    assert stack.shape == (count, 16, 16) and np.array_equal(stack[:, 8, 8], np.arange(count))
    (tmp_path / "0002.png").write_bytes(b"")  # broken after it was catalogued
    with pytest.raises(UnreadableImage, match="0002.png: 0 bytes"):
        list(batches(catalogue, 16, batch, workers))


# --- the hash, and examples ---


def test_the_hash_of_a_known_picture_is_its_blocks():
    image = np.zeros((16, 24), np.uint8)
    image[:2, :3] = 200  # the first block only
    image[14:, 21:] = 200  # and the last
    assert average_hash(image) == "8000000000000001"
    assert average_hash(np.full((3, 1), 7, np.uint8)) == "0" * 16
    for bad in (np.zeros((9, 9)), np.zeros((9, 9, 3), np.uint8), np.zeros((0, 9), np.uint8)):
        with pytest.raises(ValueError, match="a grey uint8 image"):
            average_hash(bad)


def test_examples_are_of_different_training_patients_and_follow_from_the_seed(tmp_path):
    catalogue = numbered(tmp_path, 30)
    frame = catalogue.frame.assign(patient_id=[f"p{i // 3}" for i in range(30)])
    catalogue = catalogue.subset(frame.assign(published_split=["train"] * 24 + ["test"] * 6))
    chosen = choose_examples(catalogue, 3, seed=1)
    assert len(chosen) == chosen["patient_id"].nunique() == 3 and set(chosen["published_split"]) == {"train"}
    assert chosen.equals(choose_examples(catalogue, 3, seed=1)) and not chosen.equals(choose_examples(catalogue, 3, 2))
    images, masks = read_examples(catalogue, chosen)
    assert masks is None and [image.shape for image in images["A"]] == [(20, 30)] * 3
