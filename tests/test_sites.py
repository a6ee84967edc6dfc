"""Hospitals as data: the three public collections, and sets drawn from several."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey
from helpers.run.profile import load_profile
from helpers.zech import site_data as sites
from helpers.zech.site_pixels import box_of, crop_of, shown
from helpers.zech.site_sets import balanced_weights, engineered, engineered_sites, site_sets

# --- the public collections -----------------------------------------------------------------------------------------


def picture(path: Path, rng) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (48, 48), np.uint8)).save(path)


def collections(folder: Path) -> None:
    """A few images of each of the three, in the layouts that their archives unpack to."""
    rng, entries, lists = np.random.default_rng(0), [], {"train": [], "test": []}
    for patient in range(12):
        name, split = f"{patient:08d}_000.png", "test" if patient % 3 == 0 else "train"
        picture(folder / "nih-chestxray14" / "images" / name, rng)
        found = ("Pneumonia|Effusion", "No Finding", "Consolidation", "Pneumonia")[patient % 4]
        view = ("PA", "AP")[patient % 2]
        entries.append({"Image Index": name, "Finding Labels": found, "Patient ID": patient, "View Position": view})
        lists[split].append(name)
    pd.DataFrame(entries).to_csv(folder / "nih-chestxray14" / "Data_Entry_2017_v2020.csv", index=False)
    (folder / "nih-chestxray14" / "train_list.txt").write_text("\n".join(lists["train"]))
    (folder / "nih-chestxray14" / "test_list.txt").write_text("\n".join(lists["test"]))
    for split in ("train", "test"):
        for k in range(3):
            picture(folder / "chest_xray" / split / "NORMAL" / f"IM-{k:04d}-0001.jpeg", rng)
            picture(folder / "chest_xray" / split / "PNEUMONIA" / f"person{k}_virus_{k}.jpeg", rng)
    rows = []
    for k in range(12):
        picture(folder / "covid-chestxray-dataset" / "images" / f"c{k}.png", rng)
        rows.append({"patientid": k, "finding": ("COVID-19", "No Finding", "Streptococcus")[k % 3], "view": "PA"})
        rows[-1] |= {"modality": "X-ray", "folder": "images", "filename": f"c{k}.png"}
    pd.DataFrame(rows).to_csv(folder / "covid-chestxray-dataset" / "metadata.csv", index=False)


class TestPublicSites(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not (folder / "raw").exists():
            collections(folder / "raw")
        return sites.load(folder / "raw", folder / "cache", 1)

    def test_pneumonia_of_any_cause_counts_and_other_findings_do_not(self, catalogue):
        counts = pd.crosstab(catalogue.frame["site"], catalogue.frame["label"])
        assert counts.loc["NIH"].to_dict() == {"No pneumonia": 6, "Pneumonia": 6}
        assert counts.loc["Kermany"].to_dict() == {"No pneumonia": 6, "Pneumonia": 6}
        assert counts.loc["Cohen"].to_dict() == {"No pneumonia": 4, "Pneumonia": 8}

    def test_a_department_is_known_of_one_collection_alone(self, catalogue):
        of = catalogue.frame.groupby("site")["department"].unique()
        assert set(of["NIH"]) == {"PA", "AP"} and set(of["Kermany"]) == {""}

    def test_every_hospital_has_validation_patients_of_its_own(self, catalogue):
        made = sites.split_by_site(catalogue, "patient-disjoint", 0.3, 1)
        parts = made.frame.groupby("site")["split"].unique()
        assert all(set(part) == {"train", "validation", "test"} for part in parts)
        assert (made.frame.groupby("patient_id")["split"].nunique() == 1).all()
        assert list(made.frame["image_id"]) == list(catalogue.frame["image_id"])

    def test_nobody_takes_them_for_the_talks(self, catalogue):
        able, told = sites.describes_paper(catalogue)
        assert not able and "Mount Sinai" in told and "NIH 12 images (6 with pneumonia)" in told


def test_a_missing_collection_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="ChestX-ray14"):
        sites.load(tmp_path, tmp_path / "cache", 1)


# --- sets, and how an image is shown --------------------------------------------------------------------------------


def frame_of(counts: dict[tuple[str, str], int]) -> pd.DataFrame:
    rows = []
    for (site, label), n in counts.items():
        for k in range(n):
            split = ("train", "validation", "test")[k % 3]
            rows.append({"site": site, "label": label, "split": split, "cohort": "natural"})
    return pd.DataFrame(rows)


POOL = {("A", "Pneumonia"): 240, ("A", "No pneumonia"): 360, ("B", "Pneumonia"): 120, ("B", "No pneumonia"): 900}


def test_engineered_sets_have_the_prevalence_asked_for_and_one_size():
    frame = frame_of(POOL)
    assert engineered_sites(frame) == ("A", "B")
    sizes = set()
    for draw in engineered(frame, 0.2, (1.0, 9.0), 2, 1):
        for name, rows in draw.rows.items():
            part = frame.iloc[rows["train"]]
            assert (part["split"] == "train").all() and not part.index.duplicated().any()
            rate = (part["label"] == "Pneumonia").mean()
            assert rate == pytest.approx(0.2, abs=0.02)
            sizes.add(len(part))
            if name == "joint":
                each = (part["label"] == "Pneumonia").groupby(part["site"]).mean()
                assert each["A"] / each["B"] == pytest.approx(draw.ratio, rel=0.15)
    assert len(sizes) == 1


def test_what_cannot_be_engineered_is_refused():
    with pytest.raises(ValueError, match="too few to engineer"):
        list(engineered(frame_of({key: 6 for key in POOL}), 0.2, (1.0, 19.0), 1, 1))
    with pytest.raises(ValueError, match="more than all"):
        list(engineered(frame_of(POOL), 0.6, (9.0,), 1, 1))


def test_balanced_weights_give_every_hospital_one_prevalence_and_keep_its_share():
    frame = frame_of(POOL)
    weights = balanced_weights(frame["site"].to_numpy(), frame["label"].to_numpy())
    for _, rows in frame.groupby("site"):
        mine = weights[rows.index]
        assert mine.sum() == pytest.approx(len(rows))
        ill = (rows["label"] == "Pneumonia").to_numpy()
        assert mine[ill].sum() / mine.sum() == pytest.approx((frame["label"] == "Pneumonia").mean())


def test_a_hospital_without_a_label_keeps_its_weights():
    assert (balanced_weights(np.array(["A", "A", "B"]), np.array(["x", "y", "x"]))[2:] == 1).all()


def test_all_sets_of_hospitals_are_listed_once():
    assert site_sets("AB") == [("A",), ("B",), ("A", "B")] and len(site_sets("ABC")) == 7


def test_ways_of_showing_an_image(tmp_path):
    rng, lung = np.random.default_rng(0), np.zeros((64, 64), np.uint8)
    lung[20:40, 10:50] = 255
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "x.png")
    Image.fromarray(lung).save(tmp_path / "lung.png")
    profile = load_profile("phantom", {"sites_low": 8})
    made = {
        way: shown(tmp_path / "x.png", 48, way, profile, tmp_path / "lung.png") for way in ("whole", "low", "lungs")
    }
    assert all(image.shape == (48, 48) and image.dtype == np.uint8 for image in made.values())
    assert made["low"].std() < made["whole"].std()
    rows, columns = box_of(read_grey(tmp_path / "lung.png") > 0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (19, 41, 9, 51)
    assert crop_of((100, 100))[0] == slice(12, 84)
    assert box_of(np.zeros((4, 5), bool)) == (slice(0, 4), slice(0, 5))
    with pytest.raises(ValueError, match="no way"):
        shown(tmp_path / "x.png", 48, "sideways", profile)
