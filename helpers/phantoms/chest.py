"""One phantom chest radiograph, from a seed: the body stands before the beam, the detector and its processing make an
image, and the archive marks it.

A body is built in three dimensions (chest wall, lungs with lobes, heart and great vessels, diaphragm, skeleton,
branching vessels, soft parts), X-rays are sent through it, and a site's processing makes the image. A `Signature` is
what gives a site away: its side marker, its collimation, its contrast curve, its noise, its burnt-in text. Nothing of
it comes from the patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from helpers.phantoms.chest_anatomy import Body
from helpers.phantoms.chest_findings import FINDINGS, SHAPES
from helpers.phantoms.chest_scene import Pose, Scene, enlarge
from helpers.phantoms.store import rng_of

SIZE = 192  # pixels per side
TURN, TURN_HARD, TURN_MOST = 3.0, 34.0, 58.0  # degrees about the long axis: deviation, what `hard` adds, and a limit
TILT, TILT_HARD = 1.6, 6.0  # degrees in the image's plane
LEAN = {"PA": 0.0, "AP": 6.0, "lateral": 0.0}  # degrees by which the beam comes from above
TIGHT = 0.75  # share of hard patients whose image was collimated to a part of the chest, ...
PART = 0.62  # ... by up to this share of its width
LOW, HIGH, TONES = -0.5, 2.0, 4096  # the contrast curve's table
EDGES = 0.4  # how much processing sharpens edges
TEXT_PLACE = (0.04, 0.03)  # from the left and from the top, as shares of the side
font = cache(ImageFont.load_default)
RIGHT = 0.6  # share of lateral patients who look to the image's right


@dataclass(frozen=True)
class Signature:
    """One site's or scanner's way with an image. Lengths as shares of the image's side."""

    marker: str = "R"  # the letter of the side marker, or none: it stands on the patient's right for R, left for L
    marker_shape: str = "plain"  # plain, box or circle
    marker_place: tuple[float, float] = (0.07, 0.1)  # from its side, and from the top
    marker_size: float = 0.055
    collimation: float = 0.0  # mean width of a black border, with straight edges
    gamma: float = 1.0  # of the contrast curve: above 1 darkens
    slope: float = 3.0  # of its S: the higher, the harder
    black: float = 0.02  # grey of empty air
    white: float = 0.93  # grey of what lets nothing through
    local: float = 0.42  # how much of the slow changes of brightness processing takes away
    noise: float = 1.0  # factor
    blur: float = 0.55  # pixels of 256
    text: str = ""  # burnt in
    zoom: float = 1.0  # below 1 crops tighter
    lines: float = 0.0  # chance of leads and tubes on the skin


SIGNATURES = {
    "neutral": Signature(marker=""),
    "A": Signature(),
    # Site A's images after its archive changed: another curve, a tighter crop, more noise.
    "A2": Signature(marker_place=(0.05, 0.07), gamma=0.72, slope=2.3, local=0.15, noise=2.2, blur=0.95, zoom=0.88),
    "B": Signature("L", "box", gamma=1.25, slope=4.2, collimation=0.015, local=0.25, noise=0.8),
    "C": Signature("L", "circle", (0.1, 0.16), 0.04, gamma=0.9, slope=2.4, black=0.06, white=0.86, noise=1.3, blur=0.8),
    "portable": Signature(
        "", text="PORTABLE", gamma=0.85, slope=2.6, local=0.15, noise=1.9, blur=0.95, collimation=0.03, lines=0.6,
    ),
    "portable-ED": Signature(  # the emergency department's, beside the inpatients' portable scanner
        "L", "box", (0.12, 0.07), gamma=0.95, slope=2.6, local=0.15, noise=1.6, blur=0.95, lines=0.25,
    ),
}  # fmt: skip
SIGNATURES["portable-inpatient"] = SIGNATURES["portable"]


def draw(seed: int, rows: list[dict]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The radiograph of one body as each row's `signature` shows it, uint8 (width, width), its lesion mask and its lung
    mask, bool. All else is the first row's:

    `findings`: keys of `chest_findings.FINDINGS` joined by |, all of `severity`, or each of its own in `severities`,
    from 0 (subtle) to 1 (plain); `view`: PA, AP or lateral; `quality` from 0 (noisy, blurred, badly exposed) to 1;
    `age` in years; `hard` from 0 to 1: how far the patient may be rotated, obese and out of the frame. The lesion mask
    is where the finding changes the image visibly; of findings that are a changed organ (a large heart) it is the
    organ. Body and disease follow from (seed, `patient_id`), pose, grain and exposure from these and `number`.
    """
    row = {"hard": 0.0} | rows[0]
    patient, image = int(row["patient_id"].rsplit("-", 1)[-1]), row["number"]
    labels = row["findings"].split("|")
    levels = row["severities"].split("|") if "severities" in row else [np.nan_to_num(row["severity"])] * len(labels)
    findings = list(enumerate(zip(labels, map(float, levels), strict=True)))
    zoom = SIGNATURES[row["signature"]].zoom
    body, pose = _stand(rng_of(seed, patient, 0, 0), row, zoom, rng_of(seed, patient, image, 2))
    for k, (label, level) in findings:
        if label in SHAPES:
            body = SHAPES[label](body, level, rng_of(seed, patient, 0, 1, k))
    scene = Scene(body, pose, row["width"], rng_of(seed, patient, image, 3))
    for k, (label, level) in findings:
        FINDINGS[label](scene, level, rng_of(seed, patient, 0, 7, k))
    ways = [SIGNATURES[other["signature"]] for other in rows]
    greys = capture(scene, ways, row["quality"] - 0.9 * row["hard"], rng_of(seed, patient, image, 4))
    pictures = [
        decorate(grey, way, pose, rng_of(seed, patient, image, 5)) for grey, way in zip(greys, ways, strict=True)
    ]
    return pictures, {"mask": scene.findings[1], "lung_mask": scene.lung_mask}


def _stand(anatomy: np.random.Generator, row: dict, zoom: float, rng: np.random.Generator) -> tuple[Body, Pose]:
    """The body that `anatomy` draws, in the breath and pose of this image. See `draw`."""
    n, u = rng.normal(size=9), rng.random(4)
    view, hard = row["view"], row["hard"]
    shallow = 0.16 * (1 + (view == "AP")) + 0.2 * hard
    body = Body(anatomy, row["age"], float(np.clip(0.9 - abs(n[8]) * shallow, 0, 1)))
    if hard:
        body = body.change(fat=body.fat * (1 + 1.3 * hard * u[1]))
    field = 2 * body.width + 4.1 + 2.1 * (1 - body.child) + 0.6 * body.fat
    if view == "lateral":
        field = 31.5 - 2.5 * body.child + body.fat
    tight = hard * PART * (0.4 + 0.6 * u[3]) if u[2] < TIGHT else 0.0
    across, up = (float((least + 1.2 * hard + 5 * tight) * n[k]) for k, least in ((4, 0.7), (5, 0.9)))
    return body, Pose(
        view=view,
        turn=float(np.radians(np.clip((TURN + TURN_HARD * hard) * n[1], -TURN_MOST, TURN_MOST))),
        pitch=float(np.radians(LEAN[view] + 2.5 * n[2])),
        tilt=float(np.radians(TILT + TILT_HARD * hard) * n[3]),
        centre=(across, float(body.apex - 12.5 + up)),
        field=float(zoom * field * np.exp((0.05 + 0.06 * hard) * n[0]) * (1 - tight)),
        facing=1 if u[0] < RIGHT else -1,
    )


def capture(scene: Scene, ways: list[Signature], quality: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The image by each signature, uint8 (size, size), of the healthy scene and its findings.

    `quality` from 0 (noisy, blurred, badly exposed) to 1. The window is chosen on the healthy part and its lungs: a
    finding changes no pixel elsewhere.
    """
    healthy, poor, scale = scene.healthy, 1 - quality, scene.size / 256
    # Dark is the attenuation of clear lung, and bright that of the densest seventh of the trunk.
    sample, inside = healthy[::3, ::3], scene.lung_mask[::3, ::3]
    trunk, lung = sample[sample > 0.9], sample[inside]
    bright = float(np.percentile(trunk, 86)) if trunk.size else 4.0
    dark = float(np.percentile(lung, 6)) if lung.size > 6 else 0.35 * bright
    bright = max(bright, dark + 0.8)
    draws, smear = rng.normal(size=6), rng.random()
    dark += (bright - dark) * (0.05 * draws[0] - 0.17 + 0.10 * poor * draws[1])
    bright += (bright - dark) * (0.06 * draws[2] + 0.12 * poor * draws[3])
    t = (healthy + scene.findings[0] - np.float32(dark)) * np.float32(1 / (bright - dark))
    t += np.float32(EDGES) * (t - gaussian_filter(t, 2 * scale, truncate=2))
    slow = gaussian_filter(np.clip((healthy[::4, ::4] - dark) / (bright - dark), -0.5, 1.2), 9 * scale, truncate=2)
    slow = enlarge(slow, scene.size) - np.float32(0.45)
    # Quantum noise: the fewer photons come through, the more; processing evens it out in part.
    absorbed = np.clip(healthy * np.float32(scene.body.thick) - 2, -2, 6)
    grain = rng.standard_normal(t.shape, np.float32) * np.exp(np.float32(0.15) * absorbed)
    grain *= np.float32(0.009 * (1 + 1.8 * poor**1.5) * np.exp(0.12 * draws[4]))
    # Where there is no patient, processing makes the image black whatever the curve.
    body = np.sqrt(np.minimum(healthy / np.float32(0.55), 1))
    for way in ways:
        grey = t - np.float32(way.local) * slow + np.float32(way.noise) * grain
        grey = gaussian_filter(grey, (way.blur + 0.9 * poor * smear) * scale, truncate=2.5)
        place = ((grey - np.float32(LOW)) * np.float32(TONES / (HIGH - LOW))).astype(np.int32)
        tone = _curve(way, np.exp(0.07 * draws[5])).take(place, mode="clip") * body
        yield (np.float32(way.black * 255 + 0.5) + np.float32((way.white - way.black) * 255) * tone).astype(np.uint8)


def _curve(signature: Signature, gamma: float) -> np.ndarray:
    """The contrast curve at `TONES` values from LOW to HIGH: an S from 0 to 1 with a long shoulder, so that heart and
    spine differ little, and a power.
    """
    t, s = np.linspace(LOW, HIGH, TONES), signature.slope
    t = t - 0.66 * np.maximum(t - 0.54, 0)
    low, high = 1 / (1 + np.exp(s * 0.44)), 1 / (1 + np.exp(-s * 0.46))
    grey = (1 / (1 + np.exp(-s * (t - 0.38))) - low) / (high - low)
    return (np.clip(grey, 0, 1) ** (signature.gamma * gamma)).astype(np.float32)


def decorate(grey: np.ndarray, signature: Signature, pose: Pose, rng: np.random.Generator) -> np.ndarray:
    """Burn in marker, text, leads and the collimator's border; uint8 of the same shape."""
    size = grey.shape[0]
    draws, chance = rng.normal(size=8), rng.random(4)
    picture = Image.fromarray(grey)
    draw = ImageDraw.Draw(picture)
    if chance[0] < signature.lines and pose.view != "lateral":
        _leads(draw, size, rng)
    borders = np.clip(signature.collimation * (1 + 0.8 * draws[:4]), 0, 0.2) if signature.collimation else np.zeros(4)
    if signature.marker:
        away, down = (np.array(signature.marker_place) + 0.018 * draws[4:6] + borders[[0, 2]]) * size
        left = (signature.marker == "R") if pose.view != "lateral" else (pose.facing < 0)
        tall = signature.marker_size * size * (1 + 0.12 * draws[6])
        _letter(draw, signature, (away if left else size - away, down), tall)
    if signature.text:
        place = [(p + b) * size for p, b in zip(TEXT_PLACE, borders[[0, 2]], strict=True)]
        draw.text(place, signature.text, fill=235, font=font(0.038 * size))
    left, right, top, bottom = (int(round(b * size)) for b in borders)
    inner = slice(top, size - bottom), slice(left, size - right)
    frame = np.zeros_like(grey)
    frame[inner] = np.asarray(picture)[inner]
    return frame


def _letter(draw, signature: Signature, place: tuple[float, float], tall: float) -> None:
    (x, y), half = place, 0.75 * tall
    box = (x - half, y - half, x + half, y + half)
    if signature.marker_shape == "box":
        draw.rectangle(box, fill=225)
    elif signature.marker_shape == "circle":
        draw.ellipse(box, outline=235, width=max(1, round(tall / 9)))
    ink = 40 if signature.marker_shape == "box" else 240
    draw.text((x, y), signature.marker, fill=ink, font=font(round(tall * 1.15, 1)), anchor="mm")


def _leads(draw, size: int, rng: np.random.Generator) -> None:
    """Electrodes with their wires."""
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.15, 0.85) * size, rng.uniform(0.2, 0.7) * size
        far, start, width = rng.uniform(0.15, 0.5) * size, rng.uniform(0, 90), max(1, size // 230)
        draw.arc((x - 2 * far, y - far, x, y + far), -start, 0, fill=185, width=width)
        r = 0.02 * size
        draw.ellipse((x - r, y - r, x + r, y + r), fill=205)
