"""Damage inside a file that a decoder passes over in silence: every code of a JPEG is followed, every chunk of a PNG.

Pillow reports a JPEG that is cut short, and no more: one with a sector of zeros or of another file in it, or joined
from two halves, becomes a picture, for libjpeg warns at most and Pillow drops its warnings. So the entropy-coded data
are followed here to their last bit, without an inverse transform: a code that no table has, a coefficient beyond what
pixels of 8 bits can give, blocks too few or too many for the picture's size, markers out of order. Of a PNG the
checksums of all chunks and of the pixels are compared. Other formats carry no checksum. In any file, sectors that hold
one byte over and over between full ones are what a disk or a broken transfer leaves.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numba import njit

SECTOR = 512  # bytes
MOST_SCANS = 100  # of a progressive JPEG; encoders make about 10, and thousands are made to keep a decoder busy
STEP = 1 << 20  # bytes of a PNG's pixels at a time
MOST = 1024 + 256  # the largest coefficient of 8-bit pixels, and what rounding and encoders that sharpen edges add
LONGEST = 256  # bytes of a block that is coded as badly as can be
ZERO_BITS = 48  # a block coded by so many zeros and nothing else was not written by an encoder
SOI, EOI, SOS, DQT, DHT, DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
BASELINE, PROGRESSIVE = (0xC0, 0xC1), 0xC2
CORRUPT, SHORT, LONG = "its compressed data are corrupt", "its compressed data end early", "data are left over"
FOUND = ("", CORRUPT, SHORT, LONG)


class Damaged(ValueError):  # noqa: N818 - it names the file's state
    """The message says what is wrong."""


def find_damage(content: bytes) -> str:
    """What is wrong with an image file's bytes, as far as it can be told without looking; empty for nothing."""
    try:
        if content.startswith(b"\xff\xd8"):
            _follow_jpeg(content)
        elif content.startswith(b"\x89PNG"):
            _check_png(content)
        if _has_blank_sectors(content):
            return "sectors of it are blank"
    except Damaged as error:
        return str(error)
    except (IndexError, ValueError, KeyError):  # a segment shorter than what it should hold, or a table it never had
        return CORRUPT
    return ""


def _has_blank_sectors(content: bytes) -> bool:
    """Whether sectors hold one byte over and over, and the bytes on either side are others."""
    whole = np.frombuffer(content, np.uint8, len(content) // SECTOR * SECTOR).reshape(-1, SECTOR)
    blank = (whole == whole[:, :1]).all(axis=1)
    for first in np.flatnonzero(blank[1:-1]) + 1:
        value, last = whole[first, 0], first
        while last + 1 < len(whole) and blank[last + 1] and whole[last + 1, 0] == value:
            last += 1
        if last + 1 < len(whole) and whole[first - 1, -1] != value != whole[last + 1, 0]:
            return True
    return False


# --- PNG --------------------------------------------------------------------------------------------------------------


def _check_png(content: bytes) -> None:
    place, kind, packed = 8, b"", []
    while kind != b"IEND":
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        body, place = memoryview(content)[place + 4 : place + 8 + size], place + 12 + size
        if place > len(content):
            raise Damaged("truncated")
        if zlib.crc32(body) != int.from_bytes(content[place - 4 : place], "big"):
            raise Damaged("a checksum does not match")
        if kind == b"IDAT":
            packed.append(body[4:])
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    _inflate(b"".join(packed), (8 * width + 16) * (height + 16))
    if place < len(content):
        raise Damaged(f"{len(content) - place:,} bytes after its end")


def _inflate(packed: bytes, most: int) -> None:
    """Decompress to see that the checksum at the end is right, a little at a time, and no more than `most` bytes."""
    pixels = zlib.decompressobj()
    try:
        while not pixels.eof:
            made = len(pixels.decompress(packed, STEP))
            packed, most = pixels.unconsumed_tail, most - made
            if most < 0 or not (made or packed or pixels.eof):
                raise Damaged(LONG if most < 0 else SHORT)
    except zlib.error:
        raise Damaged(CORRUPT) from None
    if pixels.unused_data:
        raise Damaged(LONG)


# --- JPEG -------------------------------------------------------------------------------------------------------------


@dataclass
class _Jpeg:
    """What the segments read so far say."""

    kind: int = 0
    size: tuple[int, int] = (0, 0)  # height, width
    sampling: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # by component: across, down, quantiser
    quantisers: dict[int, np.ndarray] = field(default_factory=dict)  # 64 steps each, in zigzag order
    codes: dict[int, np.ndarray] = field(default_factory=dict)  # by class and number: see `_codes`
    restart: int = 0  # MCUs between restart markers; 0: none
    missing: dict[int, np.ndarray] = field(default_factory=dict)  # bits of each coefficient that no scan has given yet
    seen: dict[int, np.ndarray] = field(default_factory=dict)  # coefficients that are not 0 (progressive)

    def grid(self, component: int, alone: bool) -> tuple[int, int]:
        """Blocks down and across of a component `alone` in its scan; MCUs of one that is interleaved with others."""
        across, down, _ = self.sampling[component]
        widest, tallest = (max(values) for values in list(zip(*self.sampling.values(), strict=True))[:2])
        height, width = self.size
        if alone:
            return -(-height * down // (8 * tallest)), -(-width * across // (8 * widest))
        return -(-height // (8 * tallest)), -(-width // (8 * widest))


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, body, where it ends) of each segment; whoever gets a scan says by `send` where its data end."""
    place = 2
    while True:
        begin = place
        while content[place : place + 1] == b"\xff":
            place += 1
        if place >= len(content):
            raise Damaged("truncated")
        marker = content[place]
        if place == begin or marker in (0, SOI):
            raise Damaged("bytes that belong to no segment" if marker != SOI else "a second image begins inside it")
        size = int.from_bytes(content[place + 1 : place + 3], "big") if marker != EOI else 0
        end = place + 1 + size
        if end > len(content):
            raise Damaged("truncated")
        place = (yield marker, content[place + 3 : end], end) or end


def _follow_jpeg(content: bytes) -> None:
    jpeg, scans, segments = _Jpeg(), 0, _segments(content)
    marker, body, end = next(segments)
    while marker != EOI:
        after = None
        if marker in (*BASELINE, PROGRESSIVE):
            _read_frame(jpeg, marker, body)
        elif marker in range(0xC0, 0xD0) and marker != DHT:
            raise Damaged("a kind of JPEG that cannot be checked")
        elif marker == DQT:
            _read_quantisers(jpeg, body)
        elif marker == DHT:
            _read_codes(jpeg, body)
        elif marker == DRI:
            jpeg.restart = int.from_bytes(body, "big")
        elif marker == SOS:
            scans += 1
            if scans > MOST_SCANS:
                raise Damaged(f"more than {MOST_SCANS} scans")
            after = _follow_scan(jpeg, body, content, end)
        marker, body, end = segments.send(after)
    if not jpeg.missing or any(bits.any() for bits in jpeg.missing.values()):
        raise Damaged(SHORT)


def _read_frame(jpeg: _Jpeg, marker: int, body: bytes) -> None:
    if jpeg.kind or body[0] != 8 or len(body) != 6 + 3 * body[5]:
        raise Damaged("a second image begins inside it" if jpeg.kind else CORRUPT)
    jpeg.kind = marker
    jpeg.size = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    for name, sampling, quantiser in zip(body[6::3], body[7::3], body[8::3], strict=True):
        jpeg.sampling[name] = sampling >> 4, sampling & 15, quantiser
        jpeg.missing[name] = np.full(64, 255)
        if marker == PROGRESSIVE:
            jpeg.seen[name] = np.zeros((int(np.prod(jpeg.grid(name, alone=True))), 64), bool)


def _read_quantisers(jpeg: _Jpeg, body: bytes) -> None:
    while body:
        deep, number = body[0] >> 4, body[0] & 15
        size = 64 * (1 + deep)
        steps = np.frombuffer(body[1 : 1 + size], ">u2" if deep else np.uint8).astype(np.int64)
        if len(steps) != 64 or not steps.all():
            raise Damaged(CORRUPT)
        jpeg.quantisers[number], body = steps, body[1 + size :]


def _read_codes(jpeg: _Jpeg, body: bytes) -> None:
    while body:
        size = 17 + sum(body[1:17])
        jpeg.codes[body[0]], body = _codes(body[1:size]), body[size:]


@functools.lru_cache(64)  # most files have the standard's four
def _codes(lengths_and_symbols: bytes) -> np.ndarray:
    """A table by the 16 bits that come next: how long the code is, in the upper byte, and what it means."""
    lengths = np.repeat(np.arange(1, 17), list(lengths_and_symbols[:16]))
    symbols = np.frombuffer(lengths_and_symbols, np.uint8, offset=16)
    table = np.repeat((lengths << 8 | symbols).astype(np.uint16), 1 << (16 - lengths))
    if len(table) > 1 << 16:
        raise Damaged(CORRUPT)
    return np.pad(table, (0, (1 << 16) - len(table)))


def _follow_scan(jpeg: _Jpeg, body: bytes, content: bytes, begin: int) -> int:
    """Follow a scan's data from `begin`, see that they are whole, and say where they end."""
    names, chosen = body[1:-3:2], body[2:-3:2]
    first, last, high, low = body[-3], body[-2], body[-1] >> 4, body[-1] & 15
    alone, progressive = len(names) == 1, jpeg.kind == PROGRESSIVE
    if len(names) != body[0] or last > 63 or first > last or (not progressive and body[-3:] != b"\0\x3f\0"):
        raise Damaged(CORRUPT)
    layout, tables, steps = [], [], []
    for place, (name, code) in enumerate(zip(names, chosen, strict=True)):
        across, down, quantiser = jpeg.sampling[name]
        none = np.zeros(1 << 16, np.uint16)
        dc = jpeg.codes[code >> 4] if first == 0 and not high else none
        tables += [dc, jpeg.codes[16 | code & 15] if last else none]
        steps.append(jpeg.quantisers[quantiser])
        layout += [place] * (1 if alone else across * down)
        if high and np.any(jpeg.missing[name][first : last + 1] != (1 << high) - 1):
            raise Damaged("a scan is missing")
        jpeg.missing[name][first : last + 1] = (1 << low) - 1
    bits, ends, after = _intervals(content, begin)
    mcus = int(np.prod(jpeg.grid(names[0], alone)))
    if len(ends) != (-(-mcus // jpeg.restart) if jpeg.restart else 1):
        raise Damaged(SHORT if len(ends) * (jpeg.restart or mcus) < mcus else LONG)
    seen = jpeg.seen[names[0]] if progressive and alone else np.zeros((1, 64), bool)
    band = np.array((first, last, high, low, jpeg.restart or mcus, mcus))
    full = np.concatenate([[0], np.cumsum(bits != 0)])
    found = _follow(bits, full, ends, np.array(layout), np.stack(tables), np.stack(steps), band, seen)
    if found:
        raise Damaged(FOUND[found])
    return after


def _intervals(content: bytes, begin: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A scan's data without stuffed zeros and restart markers, where each interval ends in them, and where it all ends.

    Raises `Damaged` for restart markers out of order.
    """
    data = np.frombuffer(content, np.uint8, offset=begin)
    escapes = np.flatnonzero(data[:-1] == 0xFF)
    following = data[escapes + 1]
    stop = escapes[(following != 0) & ((following < 0xD0) | (following > 0xD7))]
    size = int(stop[0]) if len(stop) else len(data)
    escapes, following = escapes[escapes < size], following[escapes < size]
    marked = following != 0
    if np.any(following[marked] != 0xD0 + np.arange(marked.sum()) % 8):
        raise Damaged("restart markers are missing or out of order")
    kept = np.ones(size + 2, bool)
    kept[escapes + 1] = kept[escapes[marked]] = False
    ends = np.append(escapes[marked], size)
    place = np.concatenate([[0], np.cumsum(kept)])
    clean = data[:size][kept[:size]]
    return np.pad(clean, (0, LONGEST)), place[ends], begin + size


@njit(nogil=True, cache=True)
def _peek(bits, place, count):
    """The `count` bits (at most 16) from a bit on."""
    byte = place >> 3
    window = (np.int64(bits[byte]) << 16) | (np.int64(bits[byte + 1]) << 8) | np.int64(bits[byte + 2])
    return (window >> (24 - (place & 7) - count)) & ((1 << count) - 1)


@njit(nogil=True, cache=True)
def _value(bits, place, size):
    """A number of `size` bits as JPEG writes it: the upper half of the range is positive."""
    raw = _peek(bits, place, size)
    return raw if raw >= 1 << (size - 1) else raw + 1 - (1 << size)


@njit(nogil=True, cache=True)
def _follow(bits, full, ends, layout, tables, steps, band, seen):
    """The number of what is wrong in `FOUND`."""
    first, last, high, low, restart, mcus = band
    mcu, begin, dc = 0, 0, np.zeros(len(steps), np.int64)
    for end in ends:
        place, run = 8 * begin, 0
        dc[:] = 0
        for _ in range(min(restart, mcus - mcu)):
            for part in layout:
                began, k = place, first
                if first == 0 and high:
                    place, k = place + 1, 1
                elif first == 0:
                    code = tables[2 * part, _peek(bits, place, 16)]
                    size, place, k = code & 255, place + (code >> 8), 1
                    if code == 0 or size > 11:
                        return 1
                    if size:
                        dc[part] += _value(bits, place, size)
                        place += size
                    if abs(dc[part] << low) * steps[part, 0] > MOST + steps[part, 0]:
                        return 1
                if k <= last:
                    table, known = tables[2 * part + 1], seen[mcu % len(seen)]
                    if high:
                        place, run = _refine(bits, place, run, k, last, table, known)
                    else:
                        place, run = _first(bits, place, run, k, last, low, table, steps[part], known)
                    if run < 0 or (run and first == 0):
                        return 1
                if place > 8 * end:
                    return 2
                if place - began >= ZERO_BITS and full[place >> 3] == full[began >> 3]:
                    return 1
            mcu += 1
        if run:
            return 1
        if place <= 8 * end - 8:
            return 3
        begin = end
    return 0


@njit(nogil=True, cache=True)
def _first(bits, place, run, k, last, low, table, steps, known):
    """A block's coefficients k to `last`, as first given: where they end, and the blocks after it that have none."""
    if run:
        return place, run - 1
    while k <= last:
        code = table[_peek(bits, place, 16)]
        place += code >> 8
        skipped, size = (code & 255) >> 4, code & 15
        if code == 0 or size > 10 or (size and k + skipped > last):
            return place, -1
        if size == 0 and skipped < 15:
            return place + skipped, (1 << skipped) - 1 + (_peek(bits, place, skipped) if skipped else 0)
        k += skipped
        if size:
            value = abs(_value(bits, place, size)) << low
            place += size
            if value * steps[k] > MOST + steps[k]:
                return place, -1
            known[k] = True
        k += 1
    return place, 0 if k == last + 1 else -1


@njit(nogil=True, cache=True)
def _refine(bits, place, run, k, last, table, known):
    """One more bit of a block's coefficients: see `_first`."""
    if run == 0:
        while k <= last:
            code = table[_peek(bits, place, 16)]
            place += code >> 8
            skipped, size = (code & 255) >> 4, code & 15
            if code == 0 or size > 1:
                return place, -1
            if size == 0 and skipped < 15:
                run = (1 << skipped) + (_peek(bits, place, skipped) if skipped else 0)
                place += skipped
                break
            place += size
            while k <= last and (known[k] or skipped):
                place, skipped = (place + 1, skipped) if known[k] else (place, skipped - 1)
                k += 1
            if k > last and size:
                return place, -1
            if size:
                known[k] = True
            k += 1
    if run:
        for rest in range(k, last + 1):
            place += known[rest]
        run -= 1
    return place, run
