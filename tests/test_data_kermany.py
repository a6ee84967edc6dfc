"""Kermany's OCT B-scans and chest X-rays: the layouts and names of every version, and what does not fit."""

from pathlib import Path

import pytest
from catalogue_contract import CatalogueContract, picture, real_data, reasons

from helpers.data import kermany_oct, kermany_xray
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.splits import dropped, leaks, split


def oct_archive(root: Path, patients: int = 3) -> Path:
    """train and test with `patients` patients per class in each, none of them in both, two images per patient."""
    for part, offset in (("train", 1000), ("test", 2000)):
        for c, label in enumerate(kermany_oct.CLASSES):
            for patient in range(offset + 100 * c, offset + 100 * c + patients):
                for n in (1, 2):
                    picture(root / part / label / f"{label}-{patient}-{n}.jpeg", 10 * patient + n)
    return root


def xray_names(version: int, patient: int) -> list[str]:
    """One patient's files: normal, bacterial and viral."""
    if version == 2:
        pneumonia = [f"person{patient}_bacteria_{patient}7.jpeg", f"person{patient + 50}_virus_{patient}8.jpeg"]
        return [f"NORMAL/IM-{patient:04d}-0001.jpeg", *(f"PNEUMONIA/{name}" for name in pneumonia)]
    pneumonia = [f"PNEUMONIA/{kind}-{patient}{k}-0001.jpeg" for k, kind in enumerate(("BACTERIA", "VIRUS"))]
    return [f"NORMAL/NORMAL-{patient}9-0001.jpeg", *pneumonia]


def xray_archive(root: Path, version: int = 2, patients: int = 3) -> Path:
    for part, offset in (("train", 100), ("test", 200)):
        for patient in range(offset, offset + patients):
            for k, name in enumerate(xray_names(version, patient)):
                picture(root / part / name, 10 * patient + k, "RGB" if patient % 2 else "L")
    return root


def load_oct(folder: Path) -> Catalogue:
    return kermany_oct.load(folder, folder / "cache", workers=1)


def load_xray(folder: Path) -> Catalogue:
    return kermany_xray.load(folder, folder / "cache", workers=1)


class TestOct(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not any(folder.iterdir()):
            oct_archive(folder / "OCT2017")
        return load_oct(folder)


class TestXray2(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not any(folder.iterdir()):
            xray_archive(folder / "chest_xray")
        return load_xray(folder)


class TestXray3(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not any(folder.iterdir()):
            xray_archive(folder / "CellData" / "chest_xray", 3)
        return load_xray(folder)


@real_data
@pytest.mark.parametrize(("module", "images"), [(kermany_oct, 683), (kermany_xray, 2884)])
def test_the_real_images_are_read(tmp_path, module, images):
    import os

    assert len(module.load(Path(os.environ["REAL_DATA_DIR"]), tmp_path)) >= images


@pytest.mark.parametrize("inside", ["OCT2017", "CellData/OCT", "OCT"])
def test_the_folder_itself_may_be_given_and_an_image_keeps_its_id(tmp_path, inside):
    root = oct_archive(tmp_path / inside, patients=1)
    assert load_oct(root).root == load_oct(root.parent).root == root
    row = load_oct(root).frame.set_index("image_id").loc["train/CNV-1000-2.jpeg"]
    assert (row["label"], row["patient_id"], row["path"]) == ("CNV", "1000", "train/CNV/CNV-1000-2.jpeg")


@pytest.mark.parametrize(
    ("load", "places", "message"),
    [
        (load_oct, (oct_archive, "OCT2017", "CellData/OCT"), "nowhere.*OCT2017, CellData/OCT.*make data PROFILE=paper"),
        (load_xray, (xray_archive, "chest_xray", "CellData/chest_xray"), "nowhere.*chest_xray.*PNEUMONIA.*make data"),
    ],
)
def test_two_versions_or_none_are_refused_with_the_remedy(tmp_path, load, places, message):
    make, *folders = places
    for folder in folders:
        make(tmp_path / folder, patients=1)
    with pytest.raises(CatalogueError, match="Which one.*DATA_DIR="):
        load(tmp_path)
    assert len(load(tmp_path / folders[0]))
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path / "nowhere")


def test_oct_images_and_chest_x_rays_are_not_taken_for_one_another(tmp_path):
    oct_archive(tmp_path / "CellData/OCT", 1)
    with pytest.raises(FileNotFoundError):
        kermany_xray.find_root(tmp_path)
    xray_archive(tmp_path / "CellData/chest_xray", 3, 1)
    assert kermany_xray.find_root(tmp_path).name == "chest_xray" and kermany_oct.find_root(tmp_path).name == "OCT"
    with pytest.raises(FileNotFoundError):
        kermany_oct.find_root(tmp_path / "CellData/chest_xray")
    assert {path.name for path in kermany_oct.folders(tmp_path)} == {"train", "test"}


def test_oct_files_that_do_not_fit_are_set_aside_with_the_reason(tmp_path):
    root = oct_archive(tmp_path / "OCT2017", 1)
    picture(root / "train/CNV/DME-1-1.jpeg")
    picture(root / "train/CNV/CNV-one-1.jpeg")
    picture(root / "train/OTHER/CNV-1-1.jpeg")
    (root / "test/NORMAL/NORMAL-1-1.jpeg").write_bytes(b"")
    (root / "test/NORMAL/._NORMAL-1-2.jpeg").write_bytes(b"Mac OS X")
    catalogue = load_oct(tmp_path)
    assert len(catalogue) == 16 and reasons(catalogue) == {
        "train/CNV/DME-1-1.jpeg": "its name says DME, its folder CNV",
        "train/CNV/CNV-one-1.jpeg": "its name is not <CLASS>-<patient>-<number>",
        "train/OTHER/CNV-1-1.jpeg": "not in a class folder",
        "test/NORMAL/NORMAL-1-1.jpeg": "0 bytes",
    }


def test_a_folder_val_of_oct_is_test_and_a_number_under_two_classes_one_patient(tmp_path):
    root = oct_archive(tmp_path / "OCT2017", 1)
    picture(root / "val/NORMAL/NORMAL-9-1.jpeg")
    picture(root / "train/DRUSEN/DRUSEN-1000-1.jpeg")
    frame = load_oct(tmp_path).frame
    assert frame.set_index("image_id").loc["val/NORMAL-9-1.jpeg", "published_split"] == "test"
    assert set(frame.loc[frame["patient_id"] == "1000", "label"]) == {"CNV", "DRUSEN"}


@pytest.mark.parametrize(
    ("file", "label", "patient"),
    [
        ("NORMAL/IM-0115-0001.jpeg", "NORMAL", "train/IM-115"),
        ("NORMAL/IM-0429-0001-0002.jpeg", "NORMAL", "train/IM-429"),
        ("NORMAL/NORMAL2-IM-1103-0001-0002.jpeg", "NORMAL", "train/IM-1103"),
        ("PNEUMONIA/person1_bacteria_1.jpeg", "BACTERIA", "train/person1"),
        ("PNEUMONIA/person1_virus_6.jpeg", "VIRUS", "train/person1"),
        ("NORMAL/NORMAL-1003233-0001.jpeg", "NORMAL", "1003233"),
        ("PNEUMONIA/BACTERIA-1008087-0001.jpeg", "BACTERIA", "1008087"),
    ],
)
def test_an_x_rays_label_and_patient_come_from_its_name(tmp_path, file, label, patient):
    picture(xray_archive(tmp_path / "chest_xray", patients=1) / "train" / file)
    row = load_xray(tmp_path).frame.set_index("path").loc[f"train/{file}"]
    assert (row["label"], row["patient_id"], row["published_split"], row["view"]) == (label, patient, "train", "AP")


def test_x_rays_of_one_number_are_one_patient_within_a_folder_and_two_across_folders(tmp_path):
    root = xray_archive(tmp_path / "chest_xray")
    for number in range(30):
        picture(root / f"train/PNEUMONIA/person{number}_bacteria_{number}.jpeg", number)
        picture(root / f"train/PNEUMONIA/person{number}_virus_{number}.jpeg", 100 + number)
    picture(root / "test/PNEUMONIA/person7_virus_1.jpeg", 9999)
    catalogue = load_xray(tmp_path)
    assert len(dropped(catalogue, "patient-disjoint")) == 0
    frame = split(catalogue, "published", 0.4, seed=3).frame
    assert leaks(frame)["patients"].sum() == 0 and set(frame["split"]) == {"train", "validation", "test"}


def test_a_folder_val_of_x_rays_is_training_and_a_copy_inside_the_archive_is_read_once(tmp_path):
    whole = load_xray(xray_archive(tmp_path / "a" / "chest_xray").parent)
    moved = xray_archive(tmp_path / "b" / "chest_xray")
    for file in ("NORMAL/IM-0100-0001.jpeg", "PNEUMONIA/person100_bacteria_1007.jpeg"):
        (moved / "val" / file).parent.mkdir(parents=True)
        (moved / "train" / file).rename(moved / "val" / file)
    xray_archive(moved / "chest_xray")
    picture(moved / "__MACOSX/train/NORMAL/IM-0001-0001.jpeg")
    copy = load_xray(moved.parent)
    assert copy.fingerprint() == whole.fingerprint()
    assert set(copy.frame.loc[copy.frame["path"].str.startswith("val/"), "published_split"]) == {"train"}


def test_x_rays_that_do_not_fit_are_set_aside_with_the_reason(tmp_path):
    root = xray_archive(tmp_path / "chest_xray", patients=1)
    picture(root / "train/NORMAL/person1_bacteria_1.jpeg")
    picture(root / "train/PNEUMONIA/person1_fungus_1.jpeg")
    picture(root / "train/OTHER/person1_virus_1.jpeg")
    (root / "test/NORMAL/IM-0002-0001.jpeg").write_bytes(b"")
    assert reasons(load_xray(tmp_path)) == {
        "train/NORMAL/person1_bacteria_1.jpeg": "its name says BACTERIA, its folder NORMAL",
        "train/PNEUMONIA/person1_fungus_1.jpeg": "its name is not one of the data set's",
        "train/OTHER/person1_virus_1.jpeg": "not in a class folder",
        "test/NORMAL/IM-0002-0001.jpeg": "0 bytes",
    }


def test_the_papers_counts_add_up_to_its_totals():
    images = {name: sum(counts.values()) for name, counts in kermany_oct.PAPER_COUNTS["images"].items()}
    assert images == {"train": 108_312, "test": 1_000}
    images = {name: sum(counts.values()) for name, counts in kermany_xray.PAPER_COUNTS["images"].items()}
    assert images == {"train": 5_232, "test": 624}
