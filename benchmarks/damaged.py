"""Damaged image files: how many are set aside, and of those accepted, how many look wrong.

    python benchmarks/damaged.py [--folder FOLDER] [--images 12] [--seed 1] [--keep FOLDER]

Sound images (phantoms, or those of a folder) are saved in several ways, each file is damaged in each way that disks,
transfers and programs damage files, and `helpers.data.scan.examine` judges it. An accepted one is compared with its
original: it is visibly wrong where more than `WRONG` of the pixels differ by more than `LEVELS` grey levels. Then the
time of a check is measured beside that of decoding, on the sound files, none of which may be set aside.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.damage import find_damage
from helpers.data.images import read_grey, read_square
from helpers.data.scan import examine
from helpers.phantoms import chest, chest_plans, oct

WRONG, LEVELS = 0.002, 16
FORMATS = {
    "JPEG": ("JPEG", {"quality": 90}),
    "JPEG, optimised": ("JPEG", {"quality": 75, "optimize": True}),
    "JPEG, progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "JPEG, restarts": ("JPEG", {"quality": 90, "restart_marker_rows": 4}),
    "PNG": ("PNG", {}),
}
SECTOR = 512
Damage = Callable[[bytes, bytes, np.random.Generator], bytes]  # of a file, with another one's bytes


def place(content: bytes, rng: np.random.Generator, size: int, aligned: bool = True) -> int:
    """Where `size` bytes lie behind the headers and before the end."""
    first, last = min(SECTOR * 2, len(content) // 2), max(len(content) - size - 16, len(content) // 2 + 1)
    chosen = int(rng.integers(first, last))
    return max(SECTOR, chosen // SECTOR * SECTOR) if aligned else chosen


def overwrite(size: int, what: str, aligned: bool = True) -> Damage:
    def damage(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
        at = place(content, rng, size, aligned)
        size_here = min(size, len(content) - at)
        patch = {
            "zeros": bytes(size_here),
            "ones": b"\xff" * size_here,
            "noise": rng.integers(0, 256, size_here, dtype=np.uint8).tobytes(),
            "another file": (other * 2)[at : at + size_here],
        }[what]
        return content[:at] + patch + content[at + size_here :]

    return damage


def flip(bits: int) -> Damage:
    def damage(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
        changed = bytearray(content)
        for at in rng.integers(min(SECTOR * 2, len(content) // 2), len(content) - 16, bits):
            changed[at] ^= 1 << int(rng.integers(8))
        return bytes(changed)

    return damage


def splice(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng, SECTOR)
    return content[:at] + other[at:]


def splice_by_share(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The same share of both pictures, so that about as many blocks remain."""
    share = rng.uniform(0.2, 0.8)
    return content[: int(share * len(content))] + other[int(share * len(other)) :]


def drop(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng, SECTOR)
    return content[:at] + content[at + SECTOR :]


def repeat(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    at = place(content, rng, SECTOR)
    return content[: at + SECTOR] + content[at:]


def swap(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    one, two = sorted((place(content, rng, SECTOR), place(content, rng, 2 * SECTOR)))
    first, second = content[one : one + SECTOR], content[two : two + SECTOR]
    return content[:one] + second + content[one + SECTOR : two] + first + content[two + SECTOR :]


def cut_and_ended(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Cut, with the format's own end put behind."""
    return content[: place(content, rng, 1, aligned=False)] + content[-2 if content[:1] == b"\xff" else -12 :]


def repaired_checksums(content: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with a byte changed and its chunk's checksum made anew; of other formats only the byte."""
    changed = bytearray(content)
    changed[place(content, rng, 1, aligned=False)] ^= 0x55
    at = 8
    while content[:1] == b"\x89" and at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        changed[at + 8 + size : at + 12 + size] = zlib.crc32(changed[at + 4 : at + 8 + size]).to_bytes(4, "big")
        at += 12 + size
    return bytes(changed)


DAMAGES: dict[str, Damage] = {
    "one bit flipped": flip(1),
    "five bits flipped": flip(5),
    **{
        f"{size} bytes of {what}{'' if aligned else ', anywhere'}": overwrite(size, what, aligned)
        for what in ("zeros", "ones", "noise", "another file")
        for size, aligned in ((SECTOR, True), (4096, True), (64, False))
    },
    "spliced with another file": splice,
    "spliced at the same share": splice_by_share,
    "a sector lost": drop,
    "a sector twice": repeat,
    "two sectors swapped": swap,
    "cut": lambda content, other, rng: content[: place(content, rng, 1, aligned=False)],
    "the last 4 bytes lost": lambda content, other, rng: content[:-4],
    "cut and ended": cut_and_ended,
    "zeros to the end": lambda content, other, rng: (
        content[: (at := place(content, rng, 1))] + bytes(len(content) - at)
    ),
    "line ends changed": lambda content, other, rng: content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "seven bits kept": lambda content, other, rng: bytes(byte & 127 for byte in content),
    "checksums repaired": repaired_checksums,
}


def draw_phantoms(count: int, seed: int) -> list[np.ndarray]:
    """B-scans and radiographs in turn, grey uint8 (h, w)."""
    half = -(-count // 2)
    plans = (
        (oct, oct.plan_oct(train=8 * half, test_per_class=1, seed=seed)),
        (
            chest,
            chest_plans.plan_views(train=2 * half, test=4, public=4, seed=seed),
        ),
    )
    drawn = [[maker.draw(seed, [row])[0][0] for row in plan.to_dict("records")[:half]] for maker, plan in plans]
    return [image for pair in zip(*drawn, strict=True) for image in pair][:count]


def encode(image: np.ndarray, form: str, options: dict) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


def judge(path: Path, original: np.ndarray) -> str:
    """set aside, or of an accepted file: right, slightly wrong (fewer pixels than `WRONG`), visibly wrong."""
    if examine(path)[-1]:
        return "set aside"
    seen = read_grey(path)
    if seen.shape != original.shape:
        return "visibly wrong"
    off = np.mean(np.abs(seen.astype(int) - original) > LEVELS)
    return "visibly wrong" if off > WRONG else "slightly wrong" if np.any(seen != original) else "right"


def run_trial(images: list[np.ndarray], folder: Path, seed: int) -> pd.DataFrame:
    """One row per damaged file: damage, format, verdict, file."""
    rng, rows = np.random.default_rng(seed), []
    for name, (form, options) in FORMATS.items():
        files = [encode(image, form, options) for image in images]
        for i, content in enumerate(files):
            whole = folder / f"whole.{form.lower()}"
            whole.write_bytes(content)
            if found := examine(whole)[-1]:
                sys.exit(f"a sound {name} was set aside: {found}")
            original, other = read_grey(whole).astype(int), files[(i + 1) % len(files)]
            for what, damage in DAMAGES.items():
                changed = damage(content, other, rng)
                path = folder / f"{what.replace(' ', '_')}-{name.replace(', ', '_')}-{i}.{form.lower()}"
                path.write_bytes(changed)
                rows.append((what, name, "as it was" if changed == content else judge(path, original), path.name))
    return pd.DataFrame(rows, columns=["damage", "format", "verdict", "file"])


def measure_time(images: list[np.ndarray], folder: Path) -> None:
    """Milliseconds of processor time per sound file: the check, beside decoding for a network of 299 pixels."""
    for name, (form, options) in FORMATS.items():
        contents = [encode(image, form, options) for image in images]
        paths = [folder / f"sound-{i}" for i in range(len(images))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        took = []
        for work, given in ((find_damage, contents), (lambda path: read_square(path, 299), paths)):
            began = time.process_time()
            for one in given * 3:
                work(one)
            took.append((time.process_time() - began) / (3 * len(images)) * 1000)
        print(
            f"{name:20} {np.mean([len(c) for c in contents]):9,.0f} bytes   check {took[0]:.2f} ms   "
            f"decode {took[1]:.2f} ms"
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path, help="images to damage; without it, phantoms")
    asked.add_argument("--images", type=int, default=12)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--keep", type=Path, help="keep the damaged files here")
    chosen = asked.parse_args()
    if chosen.folder:
        found = [path for path in sorted(chosen.folder.rglob("*")) if path.is_file() and not examine(path)[-1]]
        picked = np.random.default_rng(chosen.seed).permutation(len(found))[: chosen.images]
        images = [read_grey(found[i]) for i in picked]
    else:
        images = draw_phantoms(chosen.images, chosen.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table = run_trial(images, folder, chosen.seed)
        print(pd.crosstab(table["damage"], table["verdict"]).to_string(), "\n")
        print(pd.crosstab(table["format"], table["verdict"]).to_string(), "\n")
        damaged = table[table["verdict"] != "as it was"]
        wrong = damaged[damaged["verdict"] == "visibly wrong"]
        print(f"{len(damaged):,} damaged files, {len(wrong)} visibly wrong ones accepted", *wrong["file"], sep="\n  ")
        print()
        measure_time(images, folder)


if __name__ == "__main__":
    main()
