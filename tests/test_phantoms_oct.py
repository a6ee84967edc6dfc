"""Phantom OCT: one seed, one image; lesions where their masks are; what each disease does; two scanners; the plans."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import check_catalogue
from scipy.stats import chi2_contingency, kruskal

from helpers.phantoms.oct import HEIGHT, NARROW, OCT, PUBLISHED, STRETCHED, draw, plan_oct, plan_octid
from helpers.phantoms.oct_lesions import LESIONS
from helpers.phantoms.oct_retina import AXIAL_UM, LATERAL_MM, Anatomy, healthy
from helpers.phantoms.store import rng_of

ILL = tuple(label for label in LESIONS if label != "NORMAL")


def bscan(label: str, severity: float, seed: int, *, patient=0, image=1, quality=0.8, width=NARROW):
    """One B-scan and its lesion mask."""
    row = {"image_id": f"{label}-{patient}-{image}", "severity": severity, "quality": quality, "width": width}
    (grey,), masks = draw(seed, [row])
    return grey, masks["mask"]


def test_the_set_keeps_the_contract(tmp_path):
    again = partial(OCT.load, tmp_path, 1, train=10, test_per_class=1, seed=0)
    check_catalogue(again(), again)


# One image


def test_the_same_seed_gives_the_same_image_and_another_seed_patient_or_image_does_not():
    image, mask = bscan("CNV", 0.5, 1)
    again, mask_again = bscan("CNV", 0.5, 1)
    assert np.array_equal(image, again) and np.array_equal(mask, mask_again)
    for other in ({"seed": 2}, {"seed": 1, "patient": 1}, {"seed": 1, "image": 2}):
        assert not np.array_equal(image, bscan("CNV", 0.5, **other)[0]), other


@pytest.mark.parametrize("label", ILL)
def test_even_the_subtlest_lesion_has_a_mask_and_a_severer_one_is_larger(label):
    area = {s: [bscan(label, s, seed)[1].sum() for seed in range(3)] for s in (0.0, 0.5, 1.0)}
    low, middle, high = (np.median(found) for found in area.values())
    assert min(area[0.0]) > 0 and low < 0.75 * middle < 0.9 * high


def test_white_padding_is_the_same_whatever_the_label_and_never_hides_the_lesion():
    padded = 0
    for seed in range(3):
        drawn = [bscan(label, 1.0, seed) for label in PUBLISHED]
        white = drawn[0][0] == 255
        assert all(np.array_equal(white, image == 255) for image, _ in drawn)
        assert not any((mask & white).any() for _, mask in drawn)
        padded += white.any()
    assert padded


def test_a_poor_image_is_noisier_than_a_clean_one():
    def noise(quality):
        vitreous = bscan("NORMAL", 0, 7, quality=quality)[0][30:45, 50:200].astype(float)
        return vitreous[vitreous < 255].std()

    assert noise(0.0) > 1.8 * noise(1.0)


# What each rare disease does to the retina


def drawn(label: str, severity: float, seed: int):
    """The scan before it is painted, and the same eye's healthy one."""
    eye, scans = Anatomy(rng_of(seed, 0, 0, 0)), []
    for name in (label, "NORMAL"):
        scan = healthy(eye, width=NARROW, height=HEIGHT, rng=rng_of(seed, 0, 1, 2))
        LESIONS[name](scan, severity, rng_of(seed, 0, 0, 1))
        scan.settle()
        scans.append(scan)
    return scans


def space(scan, layer: str, below: str) -> np.ndarray:
    """A layer's thickness in micrometres, a value per column."""
    return (scan.top[below] - scan.top[layer]) * AXIAL_UM


@pytest.mark.parametrize("seed", range(4))
def test_a_macular_hole_leaves_nothing_between_vitreous_and_pigment_epithelium_at_the_fovea(seed):
    scan, well = drawn("MH", 0.6, seed)
    through = scan.fills[-1].bottom >= scan.top["pigment epithelium"] - 0.01
    across, middle = through.sum() * LATERAL_MM, scan.x_mm[through].mean()
    assert 0.2 < across < 0.7 and abs(middle) < 0.2  # millimetres
    beside = np.abs(np.abs(scan.x_mm - middle) - across / 2 - 0.15) < 0.05
    swelling = (well.top["nerve fibres"] - scan.top["nerve fibres"])[beside] * AXIAL_UM
    assert swelling.mean() > 30  # elevated edges
    cysts = [blob for blob in scan.blobs if blob.lesion and blob.tone < 0.2]
    assert len(cysts) >= 3
    assert all(abs(blob.column - scan.column(middle)) * LATERAL_MM < 1.2 for blob in cysts)


@pytest.mark.parametrize("seed", range(4))
def test_the_edge_of_a_macular_hole_is_round_and_overhangs(seed):
    scan, _ = drawn("MH", 0.6, seed)
    lower, upper = scan.fills[-2:]
    tissue = lower.top - upper.bottom  # rows left between the hole's upper and lower part
    edge = np.flatnonzero(tissue > 1)
    right = edge[edge > edge[np.diff(edge).argmax()]][:5]  # the columns next to the hole
    assert (np.diff(tissue[right]) > 0).all() and (np.diff(upper.bottom[right]) < 0).all()
    assert (lower.bottom - lower.top)[right[1]] > 2


def test_macular_oedema_has_more_bright_foci_the_severer_it_is():
    def foci(severity, seed):
        return sum(blob.lesion and blob.tone == 0.78 for blob in drawn("DME", severity, seed)[0].blobs)

    assert min(foci(0.0, seed) for seed in range(4)) > 0
    assert all(foci(1.0, seed) > 2 * foci(0.2, seed) for seed in range(4))


@pytest.mark.parametrize("seed", range(4))
def test_central_serous_fluid_is_a_dome_between_retina_and_epithelium_and_the_retina_has_no_cyst(seed):
    scan, well = drawn("CSR", 0.8, seed)
    fluid = space(scan, "subretinal", "pigment epithelium")
    wet = np.flatnonzero(fluid > 8)
    assert 80 < fluid.max() < 500 and (np.diff(wet) == 1).mean() > 0.98 and 0.5 < len(wet) * LATERAL_MM < 4
    assert not [blob for blob in scan.blobs if blob.tone < 0.2]
    inner = space(scan, "nerve fibres", "outer nuclear") / space(well, "nerve fibres", "outer nuclear")
    assert 0.7 < np.median(inner[wet]) < 1.15  # lifted, stretched perhaps, not swollen


@pytest.mark.parametrize("seed", range(4))
def test_diabetic_retinopathy_is_small_bright_dots_with_shadows_and_little_swelling(seed):
    scan, well = drawn("DR", 0.9, seed)
    bright = [blob for blob in scan.blobs if blob.lesion and blob.tone > 0.5]
    assert len(bright) >= 3 and max(blob.half_height for blob in bright) < 10
    assert sum(streak.gain < 0 for streak in scan.streaks) >= 3
    thicker = space(scan, "nerve fibres", "choroid") - space(well, "nerve fibres", "choroid")
    assert thicker.max() < 90
    assert space(scan, "subretinal", "pigment epithelium").max() == pytest.approx(0, abs=0.1)


# The other scanner


def test_the_other_scanner_has_its_size_no_padding_and_a_brighter_background_with_coarser_speckle():
    def background(image):
        rows = image[5:20].astype(float)
        noise = rows - rows.mean()
        return rows.mean(), (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()

    pairs = []
    for patient in range(8):
        other, mask = bscan("NORMAL", 0, 1, quality=0.7, patient=patient, width=STRETCHED[0])
        assert other.shape == mask.shape == STRETCHED[::-1] and (other == 255).mean() < 0.02
        own, _ = bscan("NORMAL", 0, 1, quality=0.7, patient=patient)
        if not (own == 255).any():
            pairs.append((*background(other), *background(own)))
    level, alike, own_level, own_alike = np.median(pairs, axis=0)
    assert level > 1.2 * own_level and alike > own_alike + 0.1


# The plans


def test_training_classes_have_the_published_proportions_and_the_test_is_balanced():
    rows = plan_oct(train=1000, test_per_class=40, seed=0)
    counts = rows.groupby(["published_split", "label"]).size()
    assert counts["train"].to_dict() == {"CNV": 344, "DME": 105, "DRUSEN": 80, "NORMAL": 471}
    assert set(counts["test"]) == {40}
    patients = rows.groupby("patient_id")
    assert (patients["label"].nunique() == 1).all() and (patients["published_split"].nunique() == 1).all()
    assert patients.size().between(1, 8).all() and patients.size().max() > 4
    assert set(plan_oct(train=4, test_per_class=1, seed=0).groupby(["published_split", "label"]).size()) == {1}


def test_training_holds_more_poor_images_than_the_test():
    quality = plan_oct(train=2000, test_per_class=200, seed=0).groupby("published_split")["quality"]
    assert (quality.quantile(0.2)["train"] < 0.4) and (quality.quantile(0.2)["test"] > 0.45)


def test_size_quality_and_patient_number_tell_nothing_about_the_label():
    # One row per patient: images of one patient are not independent.
    rows = plan_oct(train=3000, test_per_class=4, seed=1).drop_duplicates("patient_id")
    rows = rows[rows["published_split"] == "train"].assign(number=rows["patient_id"].astype(int))
    assert chi2_contingency(pd.crosstab(rows["label"], rows["width"])).pvalue > 0.5  # balanced, not just random
    for column in ("quality", "number"):
        assert kruskal(*(group for _, group in rows.groupby("label")[column])).pvalue > 0.01, column
    ill = rows[rows["label"] != "NORMAL"].groupby("label")["severity"]
    assert kruskal(*(group for _, group in ill)).pvalue > 0.01


def test_every_rare_class_has_as_many_images_and_shares_no_patient_with_the_bridge():
    rows = plan_octid(per_class=60, test_per_class=60, seed=2)
    assert set(rows.groupby(["published_split", "label"]).size()) == {60} and rows["patient_id"].is_unique
    for column, of in (("quality", rows), ("severity", rows[rows["label"] != "NORMAL"])):
        assert kruskal(*(group for _, group in of.groupby("label")[column])).pvalue > 0.01, column
    assert not set(plan_oct(train=200, test_per_class=20, seed=2)["patient_id"]) & set(rows["patient_id"])
