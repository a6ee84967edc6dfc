"""Pixels: any image format becomes uint8 grey, what cannot be read says why, and batches come in order."""

import struct
import threading
import time
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.data import images as pixels
from helpers.data.catalogue import Catalogue
from helpers.data.images import (
    UnreadableImage,
    average_hash,
    batches,
    choose_examples,
    read_examples,
    read_grey,
    read_square,
)
from helpers.phantoms.oct import draw

GREY = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (48, 1))  # (48, 64), dark left, bright right
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n"  # a program, to be refused


def saved(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def catalogue_of(folder, count):
    for i in range(count):
        Image.fromarray(np.full((20, 30), i % 256, np.uint8)).save(folder / f"{i:04d}.png")
    names = [f"{i:04d}.png" for i in range(count)]
    columns = {"image_id": names, "path": names, "label": "A", "patient_id": names, "digest": names}
    return Catalogue("tiny", folder, pd.DataFrame(columns).assign(published_split="train"), ("A",))


def test_grey_is_returned_as_it_is(tmp_path):
    assert np.array_equal(read_grey(saved(tmp_path, Image.fromarray(GREY))), GREY)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_any_mode_becomes_the_same_grey(tmp_path, mode):
    grey = np.where(GREY > 127, 255, 0).astype(np.uint8) if mode == "1" else GREY
    colour = Image.fromarray(grey).convert("RGB")
    path = saved(tmp_path, colour.quantize(256) if mode == "P" else colour.convert(mode), "image.tiff")
    assert np.abs(read_grey(path).astype(int) - grey).max() <= 3


def test_colour_is_weighed_as_luma(tmp_path):
    path = saved(tmp_path, Image.new("RGB", (16, 16), (0, 255, 0)))
    assert np.all(read_grey(path) == 150)  # 0.587 of 255


def test_palette_colours_are_used_rather_than_their_numbers(tmp_path):
    image = Image.fromarray((GREY > 127).astype(np.uint8), mode="P")
    image.putpalette([200, 200, 200, 10, 10, 10])
    assert set(np.unique(read_grey(saved(tmp_path, image)))) == {10, 200}


def test_transparent_parts_are_black(tmp_path):
    colour = np.full((16, 16, 4), 255, np.uint8)
    colour[:, 8:, 3] = 0
    grey = read_grey(saved(tmp_path, Image.fromarray(colour)))
    assert np.all(grey[:, :8] == 255) and np.all(grey[:, 8:] == 0)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_is_scaled_and_not_cut(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(GREY.astype(np.uint16) * 257), f"image.{suffix}")
    assert np.array_equal(read_grey(path), GREY)


def test_12_bits_stored_in_16_use_the_whole_range(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.round(GREY / 255 * 4095).astype(np.uint16)))
    assert np.array_equal(read_grey(path), GREY)


@pytest.mark.parametrize("values", [GREY / 255, GREY / 255 - 0.5, GREY * 1000.0])
def test_floating_point_pixels_are_stretched(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(values.astype(np.float32)), "image.tiff")
    assert np.abs(read_grey(path).astype(int) - GREY).max() <= 1


def test_pixels_that_are_no_number_are_refused(tmp_path):
    values = GREY.astype(np.float32)
    values[0, 0] = np.nan
    with pytest.raises(UnreadableImage, match="not-a-number"):
        read_grey(saved(tmp_path, Image.fromarray(values), "image.tiff"))


def test_the_content_decides_and_not_the_name(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY), "image.jpeg", format="PNG")
    assert np.array_equal(read_grey(path), GREY)


@pytest.mark.parametrize(("suffix", "options"), [("jpeg", {}), ("jpeg", {"progressive": True}), ("png", {})])
@pytest.mark.parametrize("read", [read_grey, lambda path: read_square(path, 8)])
def test_when_a_file_is_cut_it_is_refused(tmp_path, suffix, options, read):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), f"image.{suffix}", **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage) as caught:
        read(path)
    assert caught.value.reason == "truncated"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"<html>404</html>", "not an image"), (EPS, "not an image")],
)
def test_when_a_file_is_no_image_the_reason_says_so(tmp_path, content, reason):
    (tmp_path / "image.jpeg").write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_grey(tmp_path / "image.jpeg")
    assert caught.value.reason == reason


def test_when_there_is_no_file_the_reason_says_so(tmp_path):
    with pytest.raises(UnreadableImage, match="cannot be opened: No such file"):
        read_grey(tmp_path / "none.jpeg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_100, 10_000, 60_000])  # beyond our limit, Pillow's warning, Pillow's error
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = saved(tmp_path, Image.new("L", (16, 16)))
    png = bytearray(path.read_bytes())
    png[16:24] = struct.pack(">II", side, side)  # the size in the header, and its checksum
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    path.write_bytes(png)
    with pytest.raises(UnreadableImage) as caught:
        read_grey(path)
    assert "more than 64,000,000 pixels" in caught.value.reason


def test_an_icon_is_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="1 x 1 pixels is too small"):
        read_grey(saved(tmp_path, Image.new("L", (1, 1))))


def test_a_square_is_squashed_and_not_cropped(tmp_path):
    square = read_square(saved(tmp_path, Image.fromarray(np.repeat(GREY, 2, axis=1))), 32)
    assert square.shape == (32, 32) and square.dtype == np.uint8
    assert square[16, 0] < 10 and square[16, -1] > 245


def test_a_square_is_antialiased(tmp_path):
    checks = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    square = read_square(saved(tmp_path, Image.fromarray(checks)), 50)
    assert np.abs(square.astype(int) - 128).max() <= 2


def test_a_large_jpeg_gives_nearly_the_same_square_as_a_lossless_file(tmp_path):
    ramp = np.add.outer(np.arange(300), np.arange(600)) / 900 * 255
    waves = Image.fromarray((ramp / 2 + 60 * np.sin(ramp) + 64).astype(np.uint8))
    jpeg = read_square(saved(tmp_path, waves, "image.jpeg", quality=95), 60)
    png = read_square(saved(tmp_path, waves, "image.png"), 60)
    assert np.abs(jpeg.astype(int) - png).mean() < 1


def test_batches_keep_the_order_of_rows(tmp_path):
    catalogue = catalogue_of(tmp_path, 50)
    seen = [(rows, images) for rows, images in batches(catalogue, 16, 8, workers=4)]
    assert [(rows.start, rows.stop) for rows, _ in seen] == [(i, min(i + 8, 50)) for i in range(0, 50, 8)]
    assert np.array_equal(np.concatenate([images[:, 0, 0] for _, images in seen]), np.arange(50))


def test_a_slow_caller_finds_only_a_few_batches_decoded_ahead(tmp_path, monkeypatch):
    catalogue = catalogue_of(tmp_path, 80)
    decoded = []
    original = read_square
    monkeypatch.setattr(pixels, "read_square", lambda *given: decoded.append(1) or original(*given))
    stream = batches(catalogue, 16, 8, workers=2)
    next(stream)
    time.sleep(0.3)
    assert len(decoded) <= 8 * (1 + pixels.AHEAD)
    stream.close()


def test_when_the_caller_stops_early_nothing_more_is_decoded(tmp_path, monkeypatch):
    catalogue, before, decoded = catalogue_of(tmp_path, 80), threading.active_count(), []
    original = read_square
    monkeypatch.setattr(pixels, "read_square", lambda *given: time.sleep(0.01) or decoded.append(1) or original(*given))
    stream = batches(catalogue, 16, 8, workers=1)
    next(stream)
    stream.close()
    assert len(decoded) <= 16 and threading.active_count() == before


def test_when_a_file_breaks_after_it_was_catalogued_the_error_names_it(tmp_path):
    catalogue = catalogue_of(tmp_path, 30)
    (tmp_path / "0017.png").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="0017.png: 0 bytes"):
        list(batches(catalogue, 16, 8, workers=2))


# --- the hash, and examples ---


def test_the_hash_of_a_known_picture_is_its_blocks():
    image = np.zeros((16, 24), np.uint8)
    image[:2, :3] = 200  # the first block only
    image[14:, 21:] = 200  # and the last
    assert average_hash(image) == "8000000000000001"
    assert average_hash(np.full((3, 1), 7, np.uint8)) == "0" * 16


def test_the_hash_survives_scaling_and_jpeg_and_differs_between_patients(tmp_path):
    def bits(a, b):
        return (int(average_hash(a), 16) ^ int(average_hash(b), 16)).bit_count()

    row = {"image_id": "NORMAL-0-1", "severity": 0.0, "quality": 0.8, "width": 512}
    (image,), (other,) = (draw(seed, [row])[0] for seed in (1, 2))
    Image.fromarray(image).save(tmp_path / "poor.jpeg", quality=30)
    small = np.asarray(Image.fromarray(image).resize((200, 190), Image.Resampling.BOX))
    assert bits(image, np.asarray(Image.open(tmp_path / "poor.jpeg"))) <= 2 and bits(image, small) <= 2
    assert bits(image, other) > 4


def test_the_hash_takes_any_size_but_only_grey_bytes():
    with pytest.raises(TypeError, match="uint8"):
        average_hash(np.zeros((9, 9)))
    for shape in ((9, 9, 3), (0, 9)):
        with pytest.raises(ValueError, match="one grey image"):
            average_hash(np.zeros(shape, np.uint8))


def test_examples_are_of_different_training_patients_and_follow_from_the_seed(tmp_path):
    catalogue = catalogue_of(tmp_path, 30)
    frame = catalogue.frame.assign(patient_id=[f"p{i // 3}" for i in range(30)])
    catalogue = catalogue.subset(frame.assign(published_split=["train"] * 24 + ["test"] * 6))
    chosen = choose_examples(catalogue, 3, seed=1)
    assert len(chosen) == chosen["patient_id"].nunique() == 3 and set(chosen["published_split"]) == {"train"}
    assert chosen.equals(choose_examples(catalogue, 3, seed=1)) and not chosen.equals(choose_examples(catalogue, 3, 2))
    images, masks = read_examples(catalogue, chosen)
    assert masks is None and [image.shape for image in images["A"]] == [(20, 30)] * 3
