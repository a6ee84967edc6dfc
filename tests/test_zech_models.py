"""Zech's models: heads on several sites, sets engineered from them, the region finder, CheXNet's makers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import run_maker, tiny_images

from helpers.data.images import read_grey
from helpers.model.experiment import Images
from helpers.model.head import fit_head
from helpers.run.profile import load_profile
from helpers.zech import maps as heat
from helpers.zech import regions, sites
from helpers.zech.chexnet import FEW, fit_labels, learnable, train_chexnet

SITES, CLASSES = ("N", "M", "I"), ("Pneumonia", "No pneumonia")


@pytest.fixture(scope="module")
def study():
    """Three sites that a feature gives away, and a disease that another shows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"site": np.repeat(SITES, 240), "cohort": "natural"})
    frame["image_id"] = frame["patient_id"] = [f"p{k}" for k in range(len(frame))]
    frame["label"] = np.where(rng.random(len(frame)) < frame["site"].map({"N": 0.2, "M": 0.4, "I": 0.2}), *CLASSES)
    frame["split"] = np.resize(["train", "train", "validation", "test", "test"], len(frame))
    frame["department"] = np.where(frame["site"] == "M", np.resize(["a", "b"], len(frame)), "")
    features = rng.normal(size=(len(frame), 4)).astype(np.float32)
    features[:, 0] += 1.2 * (frame["label"] == "Pneumonia")
    features[:, 1] += 5.0 * frame["site"].map(SITES.index)
    return sites.SiteSetting(frame, {"whole": features, "lungs": features[:, [0, 2, 3]]}, CLASSES, "on")


def test_every_set_of_sites_is_scored_on_every_site_and_nothing_learnt_from_is(study):
    scores = sites.score_combinations(study, SITES)
    assert set(scores["split"]) == {"validation", "test"} and set(scores["site"]) == set(SITES)
    assert set(scores["trained_on"]) == {"N", "M", "I", "N + M", "N + I", "M + I", "N + M + I"}
    assert set(scores.loc[scores["weighting"] == "prevalence balanced", "trained_on"].str.count(r"\+")) == {1, 2}


def test_a_site_that_shows_is_identified_and_one_that_does_not_is_not(study):
    table = sites.predict_origin({"on": study}, "site")
    right = (table["truth"] == table["predicted"]).groupby(table["pixels"]).mean()
    assert right["whole"] > 0.95 and right["lungs"] < 0.5 and set(table["split"]) == {"validation", "test"}
    assert set(sites.predict_origin({"on": study}, "department")["site"]) == {"M"}
    none = replace(study, frame=study.frame.assign(department=""))
    assert sites.predict_origin({"on": none}, "department").empty


def test_engineered_draws_are_the_same_bodies_with_markers_on_and_off(study):
    off = replace(study, features={"whole": study.features["whole"][:, [0, 2, 3]]}, markers="off")
    table = sites.score_engineered({"on": study, "off": off}, draws=1, seed=1)
    on, off = (table[table["markers"] == markers].drop(columns=["p", "markers"]) for markers in ("on", "off"))
    pd.testing.assert_frame_equal(*(part.sort_values(list(part)).reset_index(drop=True) for part in (on, off)))
    assert set(table["trained_on"]) == {"joint", "high", "low"} and table["prevalence"].isna().any()


def test_the_finder_follows_a_bright_spot_and_a_crop_stays_inside():
    rng = np.random.default_rng(0)
    true, images = rng.uniform(60, 196, (120, 2)), np.zeros((120, 256, 256), np.uint8)
    for image, (row, column) in zip(images, true, strict=True):
        image[int(row) - 24 : int(row) + 24, int(column) - 24 : int(column) + 24] = 200
    splits = np.array(["train"] * 80 + ["validation"] * 20 + ["test"] * 20)
    found = regions.find_regions(images, true, splits)
    assert np.hypot(*(found - true)[splits == "test"].T).mean() < 15
    cut = regions.crops(images[:2], np.array([[0.0, 0.0], [255.0, 255.0]]), 64)
    assert (cut[0] == images[0][:64, :64]).all() and (cut[1] == images[1][192:, 192:]).all()


def test_boxes_of_images_not_learnt_from_are_drawn_and_all_others_counted(tmp_path):
    own = tiny_images(tmp_path, ("No Finding", "Finding"), (2, 1, 2))
    catalogue, names = replace(own.catalogue, phantom=False), own.frame["image_id"]
    none, why = heat.choose_marked(catalogue, own.frame, ["Mass"])
    assert none.empty and "BBox_List_2017.csv" in why
    tested, learnt = names[own.frame["split"] == "test"].tolist(), names[own.frame["split"] == "train"].tolist()
    lines = [f"{tested[0]},Mass,512,0,512,256", f"{tested[0]},Mass,0,768,256,256", f"{tested[1]},Nodule,0,0,9,9"]
    lines += [f"{learnt[0]},Mass,0,0,9,9", "elsewhere,Mass,0,0,9,9", f"{tested[1]},Mass,1000,0,99,9"]
    (tmp_path / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h]\n" + "\n".join(lines))
    chosen, sentence = heat.choose_marked(catalogue, own.frame, ["Mass", "Hernia"])
    assert chosen.to_numpy().tolist() == [[tested[0], "Mass"]] and sentence.startswith("2 boxes on 1 test")
    assert "1 whose image is not here, 1 on images learnt from, 1 of labels not learnt, 1 that cannot be" in sentence
    mask = heat.read_findings(catalogue, pd.concat([chosen, chosen.assign(image_id=tested[1])]), 32)
    assert mask[0, :8, 16:].all() and mask[0, 24:, :8].all() and mask[0].sum() == 8 * 24 and not mask[1].any()


POOL = {("A", "Pneumonia"): 240, ("A", "No pneumonia"): 360, ("B", "Pneumonia"): 120, ("B", "No pneumonia"): 900}


def pool(counts: dict[tuple[str, str], int] = POOL) -> pd.DataFrame:
    rows = [pair for pair, n in counts.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["site", "label"]).assign(cohort="natural")
    return frame.assign(split=np.resize(["train", "validation", "test"], len(frame)))


def test_engineered_sets_have_the_prevalence_asked_for_and_one_size():
    frame = pool()
    assert sites.engineered_sites(frame) == ("A", "B")
    for ratio, _, sets in sites.engineered(frame, draws=1, seed=1):
        of = {name: frame.iloc[rows].query("split == 'train'") for name, rows in sets.items()}
        ill = {name: part["label"] == "Pneumonia" for name, part in of.items()}
        assert len({len(part) for part in of.values()}) == 1 and not of["joint"].index.duplicated().any()
        assert [one.mean() for one in ill.values()] == pytest.approx([0.2] * 3, abs=0.02)
        each = ill["joint"].groupby(of["joint"]["site"]).mean()
        assert each["A"] / each["B"] == pytest.approx(ratio, rel=0.3)
    with pytest.raises(ValueError, match="too few to engineer"):
        list(sites.engineered(pool(dict.fromkeys(POOL, 6)), 1, 1))


def test_balanced_weights_give_every_site_one_prevalence_and_keep_its_share():
    frame = pool()
    frame["weight"] = sites.balanced_weights(frame)
    for (_, split), rows in frame.groupby(["site", "split"]):
        ill = rows["label"] == "Pneumonia"
        assert rows["weight"].sum() == pytest.approx(len(rows))
        overall = (frame.loc[frame["split"] == split, "label"] == "Pneumonia").mean()
        assert rows.loc[ill, "weight"].sum() / len(rows) == pytest.approx(overall)
    alone = pd.DataFrame({"site": list("AAB"), "label": list("xyx"), "split": "train"})
    assert sites.balanced_weights(alone)[2] == 1  # a site without one of the labels


def test_variants_of_an_image(tmp_path):
    rng, lung = np.random.default_rng(0), np.zeros((64, 64), np.uint8)
    lung[20:40, 10:50] = 255
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "x.png")
    Image.fromarray(lung).save(tmp_path / "lung.png")
    catalogue = tiny_images(tmp_path / "tiny", ("a",)).catalogue
    frame = pd.DataFrame({"path": ["../x.png"], "lung_mask": ["../lung.png"]})
    shown = {name: regions.read_variant(catalogue, frame, 48, name, 1)[0] for name in regions.VARIANTS}
    assert all(image.shape == (48, 48) and image.dtype == np.uint8 for image in shown.values())
    assert shown["low"].std() < shown["whole"].std()
    assert regions.box_of(read_grey(tmp_path / "lung.png") > 0) == (slice(19, 41), slice(9, 51))


def test_the_network_scores_every_image_it_did_not_learn_from_on_every_label(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")
    images = tiny_images(tmp_path, ("No Finding", "Finding"), (24, 8, 8))
    labels = np.where(images.frame["label"] == "Finding", "Effusion|Mass", "No Finding")
    labels[::5] = "Mass"
    own = Images(images.catalogue, images.frame.assign(labels=labels))
    settings = {
        "chexnet_backbone": "SmallNet",
        "weights": "none",
        "chexnet_size": 32,
        "chexnet_epochs": 1,
        "trainings": 2,
    }
    with pytest.warns(UserWarning, match="Hernia"):
        made = run_maker(train_chexnet, own, load_profile("phantom", settings | {"workers": 1}), tmp_path / "runs")
    assert made.classes == ("Effusion", "Mass") and set(made.scores["selection"]) == {"validation", "frozen"}
    held_out = own.frame[own.frame["split"] != "train"]
    assert made.scores.groupby("selection")["seed"].nunique().to_dict() == {"frozen": 1, "validation": 2}
    for _, part in made.scores.groupby(["selection", "seed"]):
        assert part["image_id"].tolist() == held_out["image_id"].tolist()
        assert part["y_Mass"].tolist() == held_out["labels"].str.contains("Mass").tolist()


def test_labels_with_too_few_images_are_left_out_with_a_warning():
    split = ["train"] * (2 * FEW)
    frame = pd.DataFrame({"labels": ["Mass"] * FEW + ["Effusion|Hernia"] * (FEW - 1) + ["Effusion"], "split": split})
    with pytest.warns(UserWarning, match=rf"Hernia \({FEW - 1}\)"):
        labels, truth = learnable(frame)
    assert labels == ("Effusion", "Mass") and truth.sum() == 2 * FEW


def test_examples_are_the_clearest_and_the_nearest_and_none_twice():
    scores = pd.DataFrame(
        {"image_id": list("abcd"), "y_Mass": [True, True, False, False], "p_Mass": [0.3, 0.6, 0.9, 0.1]}
    )
    for known, wanted in ((1, "a"), (0, "b")):  # how many there are whose place is known
        assert heat.clearest(scores, ["Mass"], scores[:known].assign(target="Mass"))["image_id"].tolist() == [wanted]
    assert heat.nearest(scores, "Mass", [0.32, 0.31])["image_id"].tolist() == ["a", "d"]


# --- a head per label ---

LABEL_SPLIT = np.repeat(["train", "validation"], (200, 100))


def label_problem() -> tuple[np.ndarray, np.ndarray]:
    """Features that differ in size, one of which never varies, and codes, 0 or 1, that two of them show."""
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=300)
    features = rng.normal(10, 3, (300, 5)) + codes[:, None] * [3, 1.5, 0, 0, 0]
    features[:, 4] = 7.0
    return (features * [1, 10, 0.1, 1, 1]).astype(np.float32), codes


def test_each_label_is_learnt_by_itself_with_a_penalty_of_its_own():
    features, codes, random = *label_problem(), np.random.default_rng(3)
    features = np.hstack([features, random.normal(size=(300, 60)).astype(np.float32)])
    truth, penalties = np.stack([codes == 1, random.random(300) < 0.4], axis=1), (0.1, 100.0)
    found = fit_labels(features, truth, LABEL_SPLIT, ("Effusion", "Mass"), penalties)
    assert found.l2.tolist() == [0.1, 100.0]  # of the noise there is nothing to learn
    one = fit_head(features, np.array(["no", "yes"])[codes], LABEL_SPLIT, ("no", "yes"), penalties).best
    np.testing.assert_allclose(found.predict(features)[:, 0], one.predict(features)[:, 1], atol=1e-4)


def test_a_label_without_positives_in_validation_takes_the_penalty_that_is_best_for_all():
    features, codes = label_problem()
    rare = np.zeros(300, bool)
    rare[:5] = True
    truth = np.stack([codes == 1, rare], axis=1)
    assert fit_labels(features, truth, LABEL_SPLIT, ("Effusion", "Hernia"), (0.001, 100.0)).l2[1] == 0.001
