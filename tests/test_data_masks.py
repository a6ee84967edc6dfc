"""People's masks: found by their images' names, wherever they lie; what is damaged or fits no image is set aside."""

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_images

from helpers.data.masks import LESIONS, LUNGS, mask_folders, read_masks
from helpers.run.cache import step_key
from helpers.run.profile import ProfileError, load_profile

SHAPE = (48, 48)


def square(shape=SHAPE, top=255):
    pixels = np.zeros(shape, np.uint8)
    pixels[shape[0] // 4 : shape[0] // 2, : shape[1] // 2] = top
    return pixels


def keep(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path):
    found = tiny_images(tmp_path / "images", ("a", "b"), (3, 0, 3)).catalogue
    sizes = [Image.open(found.file(path)).size for path in found.frame["path"]]
    return found.subset(found.frame.assign(width=[w for w, _ in sizes], height=[h for _, h in sizes]))


def test_masks_are_found_by_name_and_those_that_are_none_are_named(images, tmp_path):
    frame, folder = images.frame, tmp_path / LUNGS
    stems = [path.rsplit("/")[-1].rsplit(".", 1)[0] for path in frame["path"]]
    keep(square(), folder / "kermany" / f"{stems[0]}.png")
    keep(square(top=1).astype(bool), folder / "deep" / "er" / f"{stems[1]}.png")
    keep(0 * square(), folder / f"{stems[2]}.png")
    keep(square((40, 48)), folder / f"{stems[3]}.png")
    (folder / f"{stems[4]}.png").write_bytes((folder / "kermany" / f"{stems[0]}.png").read_bytes()[:60])
    for place in "xy":
        keep(square(), folder / place / f"{stems[5]}.png")
    keep(square(), folder / "of no image here.png")
    profile = load_profile("phantom", {"data_dir": str(tmp_path)})
    found = read_masks(images, frame, 24, profile)
    assert found.rows["image_id"].tolist() == frame["image_id"].tolist()[:2] and found.pixels.shape == (2, 24, 24)
    assert (found.pixels == (square((24, 24)) > 0)).all()
    reasons = dict(zip(found.aside["path"], found.aside["reason"], strict=True))
    expected = {2: "nothing is marked", 3: "48 x 40 pixels, where its image has 32 x 32", 4: "", 5: "two masks are"}
    assert set(reasons) == {f"{stems[k]}.png" for k in expected}
    assert all(text in reasons[f"{stems[k]}.png"] for k, text in expected.items())
    assert "2 masks of 2 images; 5 set aside" in found.describe()
    assert found.count(frame, ["label"])["with a mask"].sum() == 2


def test_lesions_lie_beside_and_have_kinds(images, tmp_path):
    stem = images.frame["path"][0].rsplit("/")[-1].rsplit(".", 1)[0]
    keep(square(), tmp_path / "given" / f"{stem}.png")
    for kind in ("consolidation", "ground-glass-opacities"):
        keep(square((16, 16)), tmp_path / LESIONS / "cohen" / f"{stem}.{kind}.png")
    profile = load_profile("phantom", {"lung_masks": str(tmp_path / "given"), "data_dir": str(tmp_path / "none")})
    assert mask_folders(profile) == [tmp_path / "given", tmp_path / LESIONS]
    found = read_masks(images, images.frame, 32, profile, LESIONS)
    assert found.rows["finding"].tolist() == ["consolidation", "ground-glass-opacities"]
    assert found.rows["image_id"].nunique() == 1 and len(read_masks(images, images.frame, 32, profile).rows) == 1


def test_without_the_folder_there_are_no_masks_and_a_wrong_key_is_refused(images, tmp_path):
    none = read_masks(images, images.frame, 32, load_profile("phantom", {"data_dir": str(tmp_path)}))
    assert none.pixels.shape == (0, 32, 32) and none.describe() == "0 masks of 0 images."
    with pytest.raises(ProfileError, match="there is no folder .*/nowhere"):
        load_profile("phantom", {"lung_masks": "nowhere"})


def test_the_controls_are_made_again_where_a_mask_changes_and_other_steps_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")
    real = {"covid_source": "cohen", "data_dir": str(tmp_path)}
    keys = []
    for top in (255, 254):
        keep(square(top=top), tmp_path / LUNGS / "a.png")
        profile = load_profile("phantom", real)
        step_key.cache_clear()
        keys.append([step_key(step, profile) for step in ("covid_bridge", "covid_data")])
    assert keys[0][0] != keys[1][0] and keys[0][1] == keys[1][1]
