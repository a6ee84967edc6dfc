"""Hospitals as data: the three public collections, and sets drawn from several."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.zech import site_data as sites

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
