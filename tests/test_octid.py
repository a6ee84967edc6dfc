"""OCTID: five folders of which four are read, patients whom nobody named, and a draw by hash."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.carr import octid
from helpers.carr.octid import FOLDERS, PAPER_COUNTS, describes_paper, load
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.copies import duplicate_counts, duplicates
from helpers.data.datasets import read_datasets
from helpers.data.download import DownloadError, ensure, fetch_for, wanted
from helpers.data.sources import load_octid
from helpers.run.profile import load_profile
from helpers.run.stages import split_of


def picture(path: Path, seed: int, size: tuple[int, int] = (75, 50), quality: int = 90) -> Path:
    """A made scan; one seed is one eye, whatever its size and compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=quality)
    return path


def archive(root: Path, images: int = 6) -> Path:
    for c, label in enumerate(FOLDERS):
        for k in range(images):
            picture(root / label / f"{label}{k + 1}.jpeg", 100 * c + k)
    return root


class TestOctid(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        root = folder / octid.LAYOUT
        return load(folder if root.exists() else archive(root).parent, folder / "cache", 1, drawn=3)


def reasons(catalogue: Catalogue) -> dict[str, str]:
    return dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True))


def test_four_classes_are_read_and_amd_is_listed_as_left_out(tmp_path):
    catalogue = load(archive(tmp_path / "octid", 4).parent, tmp_path / "cache", drawn=2)
    assert catalogue.classes == ("NORMAL", "MH", "DR", "CSR") and len(catalogue) == 16
    assert reasons(catalogue) == {f"AMD/AMD{k}.jpeg": "AMD: none of the poster's diagnoses" for k in range(1, 5)}
    row = catalogue.frame.set_index("image_id").loc["MH/MH2.jpeg"]
    assert (row["label"], row["path"]) == ("MH", "MH/MH2.jpeg")


def test_of_every_class_the_asked_number_is_drawn_to_learn_from_and_the_rest_assesses(tmp_path):
    frame = load(archive(tmp_path / "octid", 9).parent, tmp_path / "cache", drawn=4).frame
    counts = frame.groupby(["label", "published_split"]).size().unstack()
    assert set(counts["train"]) == {4} and set(counts["test"]) == {5}


def test_a_draw_does_not_change_with_other_images_and_a_smaller_one_lies_inside_a_larger(tmp_path):
    def train(images, drawn):
        folder = archive(tmp_path / f"{images}" / "octid", images).parent
        frame = load(folder, tmp_path / "cache", drawn=drawn).frame
        return set(frame.loc[frame["published_split"] == "train", "image_id"])

    few, more = train(9, 3), train(9, 5)
    assert few < more
    others = load(archive(tmp_path / "9" / "octid", 9).parent, tmp_path / "cache2", drawn=3).frame
    assert few == set(others.loc[others["published_split"] == "train", "image_id"])


def test_near_copies_count_as_one_patient_and_are_never_on_both_sides(tmp_path):
    root = archive(tmp_path / "octid", 8)
    for k in range(4):
        picture(root / "MH" / f"MH{20 + k}.jpeg", 103, (75 + 10 * k, 50 + 8 * k), 80 - 10 * k)  # MH4 again
    (root / "CSR" / "CSR30.jpeg").write_bytes((root / "CSR" / "CSR1.jpeg").read_bytes())
    catalogue = load(tmp_path, tmp_path / "cache", drawn=4)
    same = catalogue.frame[catalogue.frame["image_id"].isin([f"MH/MH{n}.jpeg" for n in (4, 20, 21, 22, 23)])]
    assert len(same) == 5 and same["patient_id"].nunique() == 1 and same["published_split"].nunique() == 1
    pairs = duplicates(catalogue)
    counts = duplicate_counts(pairs).set_index(["kind", "where"])["pairs"]
    assert counts[:, "train and test"].sum() == 0 and counts["exact"].sum() == 1 and len(pairs) >= 5


def test_copies_with_two_diagnoses_are_not_used(tmp_path):
    root = archive(tmp_path / "octid", 6)
    picture(root / "DR" / "DR40.jpeg", 100, (90, 60), 70)  # MH1's eye
    catalogue = load(tmp_path, tmp_path / "cache", drawn=3)
    aside = {path for path, reason in reasons(catalogue).items() if reason == "copies of it have another diagnosis"}
    assert aside == {"DR/DR40.jpeg", "MH/MH1.jpeg"}


def test_what_does_not_fit_is_set_aside_with_the_reason_and_depth_does_not_matter(tmp_path):
    root = archive(tmp_path / "octid", 4)
    picture(root / "DR" / "inner" / "DR77.jpeg", 900)
    picture(root / "DR" / "CSR78.jpeg", 901)
    (root / "MH" / "MH9.jpeg").write_bytes(b"")
    (root / "MH" / "._MH8.jpeg").write_bytes(b"Mac OS X")
    catalogue = load(tmp_path, tmp_path / "cache", drawn=2)
    assert "DR/inner/DR77.jpeg" in set(catalogue.frame["image_id"])
    found = reasons(catalogue)
    assert found["DR/CSR78.jpeg"] == "its name says CSR, its folder DR" and found["MH/MH9.jpeg"] == "0 bytes"
    assert len(found) == 6


def test_too_few_images_for_the_draw_are_an_error_that_says_what_to_set(tmp_path):
    archive(tmp_path / "octid", 4)
    with pytest.raises(CatalogueError, match="has 4 images, and 4 were to be drawn.*BRIDGE_OCTID_IMAGES"):
        load(tmp_path, tmp_path / "cache", drawn=4)


def test_when_there_is_no_data_it_says_what_was_looked_for_and_how_to_get_it(tmp_path):
    archive(tmp_path / "part" / "octid", 2)
    (tmp_path / "part" / "octid" / "MH").rename(tmp_path / "part" / "MH")
    for folder in (tmp_path / "nowhere", tmp_path / "part"):
        with pytest.raises(FileNotFoundError, match="no OCTID images in.*octid for folders NORMAL, MH.*dataverse"):
            load(folder, tmp_path / "cache")


def test_the_published_number_of_images_describes_the_paper_and_fewer_do_not():
    import pandas as pd

    def sized(counts):
        rows = [(label, "train" if k < 60 else "test") for label, n in counts.items() for k in range(n)]
        frame = pd.DataFrame(rows, columns=["label", "published_split"])
        names = frame.index.astype(str)
        frame = frame.assign(image_id=names, path=names, patient_id=names, digest=names)
        return Catalogue("octid", Path(), frame, octid.CLASSES)

    whole = {label: PAPER_COUNTS[label] for label in octid.CLASSES}
    yes, sentence = describes_paper(sized(whole))
    assert yes and "240 images to learn and choose from, 277 to assess" in sentence
    assert not describes_paper(sized(whole | {"NORMAL": 150}))[0]


def test_the_split_keeps_the_posters_fifty_to_learn_from_beside_those_that_choose(tmp_path, monkeypatch):
    archive(tmp_path / "octid", 12)
    monkeypatch.setattr("helpers.data.sources.CACHE", tmp_path / "cache")
    monkeypatch.setattr(octid, "VALIDATION", 2)
    told = {"octid_source": "octid", "data_dir": tmp_path, "bridge_octid_images": 5}
    profile = load_profile("phantom", told)
    frame = split_of(profile, load_octid(profile), "octid").frame
    counts = frame.groupby(["split", "label"]).size().unstack()
    assert (counts.loc["train"] == 5).all() and (counts.loc["validation"] == 2).all()
    assert (counts.loc["test"] == 5).all()


def test_the_papers_profile_asks_for_it_and_says_that_it_is_to_be_fetched_by_hand(tmp_path):
    profile = load_profile("paper", {"data_dir": tmp_path, "oct_source": "phantom_oct", "xray_source": "phantom_chest"})
    profile = profile.model_copy(update={"view_source": "phantom_chest"})
    with pytest.warns(UserWarning, match="only be fetched by hand"):
        assert fetch_for(profile) == []
    (tmp_path / "CSR.zip").touch()
    assert wanted(profile) == ["octid"]
    (tmp_path / "CSR.zip").unlink()
    with pytest.raises(DownloadError, match="(?s)no address that a program can use.*By hand.*dataverse"):
        ensure("octid", tmp_path, progress=False)


@pytest.mark.filterwarnings("ignore:.*no checksum is published")
def test_zips_put_there_by_hand_are_unpacked_and_read(tmp_path):
    made = archive(tmp_path / "made", 3)
    for file in read_datasets()["octid"].files:
        label = file.name.removesuffix(".zip")
        with zipfile.ZipFile(tmp_path / file.name, "w") as packed:
            for path in (made / label).iterdir():
                packed.write(path, f"{label}/{path.name}" if label == "MH" else path.name)  # with a top folder, or none
    assert ensure("octid", tmp_path, progress=False) == tmp_path / "octid"
    assert len(load(tmp_path, tmp_path / "cache", drawn=2)) == 12
