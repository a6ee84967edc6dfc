"""Phantoms of rare retinal disease: what each lesion does to the retina, and the data set from another scanner."""

from pathlib import Path

import numpy as np
import pytest
from catalogue_contract import CatalogueContract

from helpers.data.catalogue import Catalogue
from helpers.phantoms import oct as phantom_oct
from helpers.phantoms import octid as phantom_octid
from helpers.phantoms import rare as phantom_rare
from helpers.phantoms.oct_lesions import LESIONS
from helpers.phantoms.octid import CLASSES, HEIGHT, WIDTH, load, plan
from helpers.phantoms.oct_retina import draw_anatomy, healthy
from helpers.phantoms.scan import AXIAL_UM, LATERAL_MM
from helpers.phantoms.store import rng_of

RARE = ("MH", "CSR", "DR")
SMALL = {"per_class": 3, "test_per_class": 2, "seed": 5}


class TestPhantomOctid(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(folder, **SMALL, workers=1)


def drawn(label: str, severity: float, seed: int):
    """The scan before it is painted, and the same eye's healthy one."""
    eye, scans = draw_anatomy(rng_of(seed, 0, 0, 0)), []
    for name in (label, "NORMAL"):
        scan = healthy(eye, width=512, height=496, rng=rng_of(seed, 0, 1, 2))
        LESIONS[name](scan, severity, rng_of(seed, 0, 0, 1))
        scan.settle()
        scans.append(scan)
    return scans


def space(scan, layer: str, below: str) -> np.ndarray:
    """A layer's thickness in micrometres, a value a column."""
    return (scan.top[below] - scan.top[layer]) * AXIAL_UM


# The lesions


@pytest.mark.parametrize("label", RARE)
def test_even_the_subtlest_lesion_has_a_mask_and_a_severer_one_is_larger(label):
    area = {s: [phantom_oct.one(label, s, seed)[1].sum() for seed in range(4)] for s in (0.0, 0.5, 1.0)}
    assert min(area[0.0]) > 0
    low, middle, high = (np.median(found) for found in area.values())
    assert low < 0.75 * middle < 0.9 * high


@pytest.mark.parametrize("seed", range(4))
def test_a_macular_hole_leaves_nothing_between_vitreous_and_pigment_epithelium_at_the_fovea(seed):
    scan, well = drawn("MH", 0.6, seed)
    gap = scan.fills[-1]
    through = gap.bottom >= scan.top["pigment epithelium"] - 0.01
    across = through.sum() * LATERAL_MM
    assert 0.2 < across < 0.7  # millimetres
    middle = scan.x_mm[through].mean()
    assert abs(middle) < 0.2
    beside = np.abs(np.abs(scan.x_mm - middle) - across / 2 - 0.15) < 0.05
    swelling = (well.top["nerve fibres"] - scan.top["nerve fibres"])[beside] * AXIAL_UM
    assert swelling.mean() > 30  # elevated edges
    cysts = [blob for blob in scan.blobs if blob.lesion and blob.tone < 0.2]
    assert len(cysts) >= 3
    assert all(abs(blob.column - scan.column(middle)) * LATERAL_MM < 1.2 for blob in cysts)


@pytest.mark.parametrize("seed", range(4))
def test_central_serous_fluid_is_a_dome_between_retina_and_epithelium_and_the_retina_has_no_cyst(seed):
    scan, well = drawn("CSR", 0.8, seed)
    fluid = space(scan, "subretinal", "pigment epithelium")
    assert 80 < fluid.max() < 500
    wet = np.flatnonzero(fluid > 8)
    assert (np.diff(wet) == 1).mean() > 0.98 and 0.5 < len(wet) * LATERAL_MM < 4
    assert not [blob for blob in scan.blobs if blob.tone < 0.2]
    inner = space(scan, "nerve fibres", "outer nuclear") / space(well, "nerve fibres", "outer nuclear")
    assert 0.7 < np.median(inner[wet]) < 1.15  # lifted, stretched perhaps, not swollen


def test_about_half_of_central_serous_scans_have_a_detached_epithelium_as_well():
    found = [space(drawn("CSR", 0.6, seed)[0], "sub-RPE", "choroid").max() > 15 for seed in range(24)]
    assert 8 <= sum(found) <= 20


@pytest.mark.parametrize("seed", range(4))
def test_diabetic_retinopathy_is_small_bright_dots_with_shadows_and_little_swelling(seed):
    scan, well = drawn("DR", 0.9, seed)
    bright = [blob for blob in scan.blobs if blob.lesion and blob.tone > 0.5]
    assert len(bright) >= 3 and max(blob.half_height for blob in bright) < 10
    assert sum(streak.gain < 0 for streak in scan.streaks) >= 3
    # Without the nerve fibres, which a cotton-wool spot may swell.
    thicker = space(scan, "ganglion cells", "choroid") - space(well, "ganglion cells", "choroid")
    assert thicker.max() < 90
    assert space(scan, "subretinal", "pigment epithelium").max() == pytest.approx(0, abs=0.1)


def test_the_bridges_own_phantoms_are_drawn_as_before_this_module_was_there():
    assert phantom_oct.CLASSES == ("CNV", "DME", "DRUSEN", "NORMAL")
    assert not set(RARE) & set(phantom_oct.CLASSES) and set(RARE) <= set(LESIONS) and phantom_rare.VITREOUS == 0


# The scanner and the data set


@pytest.mark.parametrize("label", CLASSES)
def test_an_image_of_the_other_scanner_has_its_size_and_no_white_padding(label):
    image, mask = phantom_octid.one(label, 0.5, 1)
    assert image.shape == mask.shape == (HEIGHT, WIDTH) and image.dtype == np.uint8 and mask.dtype == bool
    assert mask.any() == (label != "NORMAL")
    assert not (image[[0, -1]] == 255).any()


def test_the_scanners_differ_in_more_than_size():
    """Background noise, of the same eyes, is higher, and correlated further across."""

    def background(image):
        # Where the picture is highest above the retina: rows 5 % to 15 %.
        rows = image[len(image) // 20 : len(image) // 7].astype(float)
        noise = rows - rows.mean()
        return rows.mean(), (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()

    pairs = []
    for patient in range(8):
        other, _ = phantom_octid.one("NORMAL", 0, 1, quality=0.7, patient=patient)
        own, _ = phantom_oct.one("NORMAL", 0, 1, quality=0.7, patient=patient)
        if not (own == 255).any():
            pairs.append((*background(other), *background(own)))
    level, alike, own_level, own_alike = np.median(pairs, axis=0)
    assert level > 1.2 * own_level and alike > own_alike + 0.1


def test_every_class_has_as_many_images_and_nothing_else_tells_them_apart():
    from scipy.stats import kruskal

    rows = plan(per_class=60, test_per_class=60, seed=2)
    assert set(rows.groupby(["published_split", "label"]).size()) == {60} and rows["patient_id"].is_unique
    for column, of in (("quality", rows), ("severity", rows[rows["label"] != "NORMAL"])):
        assert kruskal(*(group for _, group in of.groupby("label")[column])).pvalue > 0.01, column


def test_no_patient_of_the_bridge_is_in_the_target():
    bridge = phantom_oct.plan(train=200, test_per_class=20, seed=1)["patient_id"]
    assert not set(bridge) & set(plan(per_class=20, test_per_class=20, seed=1)["patient_id"])


def test_any_number_of_processes_gives_the_same_bytes(tmp_path):
    one, two = (load(tmp_path / str(n), **SMALL, workers=n) for n in (1, 2))
    assert one.file("phantom.csv").read_bytes() == two.file("phantom.csv").read_bytes()


def test_impossible_numbers_are_refused(tmp_path):
    for bad in ({"per_class": 1}, {"test_per_class": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="at least 2"):
            load(tmp_path, **{**SMALL, **bad})
    with pytest.raises(ValueError, match="known: NORMAL"):
        phantom_octid.one("GLAUCOMA", 0.5, 0)
