"""Damage that decoders pass over: sound files of every kind pass, and no hole, foreign block or seam does."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from helpers.data.damage import find_damage

RNG = np.random.default_rng(5)
SCENE = np.asarray(Image.fromarray(RNG.integers(0, 255, (30, 40), dtype=np.uint8)).resize((301, 203)))
NOISY = np.clip(SCENE + RNG.normal(0, 20, SCENE.shape), 0, 255).astype(np.uint8)
OTHER = NOISY[::-1]
KINDS = (
    {},
    {"optimize": True, "quality": 30},
    {"progressive": True},
    {"restart_marker_blocks": 7},
    {"progressive": True, "restart_marker_rows": 2, "quality": 98},
)


def encoded(pixels: np.ndarray, mode: str = "L", form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [*KINDS, {"subsampling": 0}, {"subsampling": 1, "quality": 100}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_sound_jpegs_pass_whatever_encoder_wrote_them(mode, options):
    for pixels in (NOISY, NOISY[:9, :8], np.zeros((700, 900), np.uint8), np.full((64, 640), 255, np.uint8)):
        assert find_damage(encoded(pixels, mode, **options)) == ""
    assert find_damage(encoded(NOISY, mode, **options) + b"a comment of the camera") == ""  # behind the end


def put(content: bytes, at: int, patch: bytes) -> bytes:
    return content[:at] + patch + content[at + len(patch) :]


DAMAGES = {
    "a sector of zeros": lambda a, b, m: put(a, m, bytes(512)),
    "zeros": lambda a, b, m: put(a, m + 77, bytes(90)),
    "ones": lambda a, b, m: put(a, m, b"\xff" * 512),
    "noise": lambda a, b, m: put(a, m, RNG.bytes(300)),
    "foreign block": lambda a, b, m: put(a, m, b[m : m + 512]),
    "spliced": lambda a, b, m: a[:m] + b[m:],
    "spliced with a whole file": lambda a, b, m: a[:m] + b,
    "hole": lambda a, b, m: a[:m] + a[m + 512 :],
    "cut and ended": lambda a, b, m: a[:m] + a[-2:],
    "end lost": lambda a, b, m: a[:-2],
    "zeros to the end": lambda a, b, m: a[:m] + bytes(len(a) - m),
    "bytes before a marker": lambda a, b, m: a[:-2] + b"abc" + a[-2:],
    "segment lost": lambda a, b, m: a[: a.index(b"\xff\xdb")] + a[a.index(b"\xff\xc4") :],
}


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_jpeg_is_found(damage, options):
    one, other = encoded(NOISY, **options), encoded(OTHER, **options)
    assert find_damage(DAMAGES[damage](one, other, len(one) // 2 // 512 * 512))


def test_a_progressive_jpeg_that_would_keep_a_decoder_busy_or_lacks_scans_is_refused():
    sound = encoded(NOISY, progressive=True)
    last = sound.rindex(b"\xff\xda")
    assert find_damage(sound[:last] + sound[last:-2] * 200 + sound[-2:])
    assert find_damage(sound[:last] + sound[-2:]) == "its compressed data end early"


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def test_a_png_passes_only_with_every_checksum_right():
    text = PngImagePlugin.PngInfo()
    text.add(b"tEXt", b"Comment\0behind the pixels", after_idat=True)
    sound = encoded(NOISY, "RGBA", "PNG", pnginfo=text)
    pixels, comment, end = sound.index(b"IDAT"), sound.index(b"tEXt"), sound.index(b"IEND") - 4
    head, packed = sound[: pixels - 4], zlib.compress(bytes(10**7))
    assert find_damage(sound) == ""
    for damaged, reason in (
        (put(sound, comment + 12, b"X"), "a checksum does not match"),
        (put(sound, pixels + 400, bytes(100)), "a checksum does not match"),
        (sound[:end], "truncated"),
        (sound + b"\n", "1 bytes after its end"),
        (head + chunk(b"IDAT", sound[pixels + 4 : pixels + 900]) + sound[end:], "compressed data end early"),
        (head + chunk(b"IDAT", packed) + sound[end:], "data are left over"),
        (head + chunk(b"IDAT", packed[:-4] + b"sums") + sound[end:], "left over|corrupt"),
    ):
        assert any(part in find_damage(damaged) for part in reason.split("|")), reason


def test_blank_sectors_are_found_in_any_format_and_black_pictures_are_not():
    bitmap = encoded(NOISY, form="BMP")
    assert find_damage(bitmap) == "" and find_damage(put(bitmap, 4096, bytes(1024))) == "sectors of it are blank"
    assert find_damage(encoded(np.zeros((300, 300), np.uint8), form="BMP")) == ""
