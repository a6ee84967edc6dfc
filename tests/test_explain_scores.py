"""Scores of explanations: right on maps whose score is known by construction."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_explain_gradients import SIZE, curved

from helpers.data.catalogue import Catalogue, UserTableError
from helpers.data.images import frame_of
from helpers.data.masks import Masks
from helpers.explain import gradients
from helpers.explain.maps import Maps, from_logits, retina_borders, retina_mask
from helpers.explain.scores import (
    MEASURES,
    against_baseline,
    agreement,
    best_overlap,
    compare_methods,
    deletion_insertion,
    localisation,
    localised,
    middle_of,
    peak_of,
    point,
    randomised,
    rank_correlation,
    sanity_check,
    share_in_lungs,
)
from helpers.kermany.localisation import diseased_cases, load_marks, mark_masks, size_curve, table_s3
from helpers.plots.maps import deletion_insertion as draw_deletion
from helpers.plots.maps import localisation_curve

BOX = 5


def square(top, left, side, size=40):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def one(values, mask, **options):
    return localisation(maps_of(np.asarray(values)[None]), mask[None], BOX, **options).iloc[0]


def maps_of(values, **extra):
    return Maps(np.asarray(values, np.float32), "made", "probability", 0.0, extra)


# --- one image -------------------------------------------------------------------------------------------------------


def test_a_map_that_is_the_lesion_has_full_marks():
    mask = square(10, 12, 6)
    found = one(mask, mask)
    assert found[["hit", "mass", "iou"]].tolist() == [1, 1, 1] and found["size_over_box"] == 6 / BOX


@pytest.mark.parametrize(("away", "hit"), [(2, 1.0), (3, 0.0)])
def test_a_peak_hits_when_the_box_on_it_touches_the_lesion(away, hit):
    mask, values = square(10, 10, 4), np.zeros((40, 40))
    values[9 - away + 1, 12] = 1  # a box of 5 reaches 2 pixels from its middle
    assert one(values, mask)["hit"] == hit


def test_chance_is_the_share_of_places_from_which_the_box_touches():
    mask, retina = square(10, 10, 4), np.zeros((40, 40), bool)
    retina[:20] = True
    found = one(mask, mask, allowed=retina[None])
    assert found["hit_by_chance"] == pytest.approx(64 / 800) and found["mass_by_chance"] == pytest.approx(16 / 800)


def test_a_window_finds_the_region_where_single_pixels_would_mislead():
    values = np.zeros((40, 40))
    values[35, 35] = 3.0
    values[8:13, 8:13] = 1.0
    assert peak_of(values) == (35, 35) and peak_of(values, window=5) == (10, 10)


def test_the_best_overlap_equals_the_best_of_all_thresholds():
    random = np.random.default_rng(0)
    mask = square(10, 10, 20)
    values = np.round(mask + random.normal(0, 0.7, mask.shape), 1)
    every = [(mask & (values > cut)).sum() / (mask | (values > cut)).sum() for cut in np.unique(values)]
    assert best_overlap(values, mask) == pytest.approx(max(every), abs=0.02)


# --- means and bins --------------------------------------------------------------------------------------------------


def frame(n=120):
    random = np.random.default_rng(1)
    found = pd.DataFrame({"hit": random.random(n) < 0.7, "patient_id": [f"p{i // 2}" for i in range(n)]})
    found["hit"] = found["hit"].astype(float)
    found["label"] = np.array(["DRUSEN", "CNV", "DME"])[np.arange(n) % 3]
    found["hit_by_chance"], found["size_over_box"], found["peak"] = 0.1, random.uniform(0.2, 4, n), 0.3
    return found


def test_table_s3_has_each_class_and_all_with_intervals():
    given = frame()
    table, estimates = table_s3(given)
    assert table["class"].tolist() == ["DRUSEN", "CNV", "DME", "all"]
    assert table["images"].tolist() == [40, 40, 40, 120]
    assert estimates["all"].value == pytest.approx(given["hit"].mean())
    accuracy = table["localisation accuracy"]
    assert (table["low"] < accuracy).all() and (accuracy < table["high"]).all()


# --- curves ----------------------------------------------------------------------------------------------------------


def one_spot():
    """Class A is as likely as one spot is bright."""
    inputs = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    weights = np.zeros((SIZE, SIZE, 2))
    weights[5:7, 5:7, 0] = 0.014
    model.set_weights([weights.reshape(-1, 2), np.array([-10.0, 0.0])])
    return from_logits(model, ("A", "B")), weights[..., 0]


def test_deleting_what_matters_first_costs_most_and_inserting_it_first_gains_most():
    classifier, weights = one_spot()
    image = np.zeros((1, SIZE, SIZE), np.uint8)
    image[0, 5:7, 5:7] = 255
    predict, code = classifier.predictor(), np.array([0])
    right, curves = deletion_insertion(image, code, weights[None], predict)
    wrong, _ = deletion_insertion(image, code, -weights[None], predict)
    assert right["deletion"][0] < wrong["deletion"][0] - 0.3
    assert right["insertion"][0] > wrong["insertion"][0] + 0.3
    assert curves["share"].tolist() == pytest.approx(np.linspace(0, 1, 17).tolist())


# --- sanity and agreement --------------------------------------------------------------------------------------------


def test_shuffled_weights_keep_their_values_and_leave_the_network_as_it_was():
    classifier = curved()
    before = [value.copy() for value in classifier.model.get_weights()]
    other = randomised(classifier, seed=3)
    for old, new, kept in zip(before, other.model.get_weights(), classifier.model.get_weights(), strict=True):
        assert np.sort(old.ravel()) == pytest.approx(np.sort(new.ravel())) and (old == kept).all()
    assert other.key != classifier.key and randomised(classifier, seed=3).key == other.key


def test_rank_correlation_is_1_for_the_same_order_and_about_0_for_chance():
    values = np.random.default_rng(0).random((6, 32, 32))
    other = np.random.default_rng(1).random((6, 32, 32))
    assert rank_correlation(values, values**3, cell=1) == pytest.approx(np.ones(6))
    assert np.abs(rank_correlation(values, other, cell=1)).max() < 0.1
    assert np.isnan(rank_correlation(values[:1], np.zeros((1, 32, 32)), cell=1)).all()


def test_sanity_and_agreement_give_intervals():
    values = np.random.default_rng(0).random((8, 32, 32))
    other = np.random.default_rng(1).random((8, 32, 32))
    methods = {"a": maps_of(values), "b": maps_of(values + 0.1 * other), "c": maps_of(other)}
    pairs = agreement([methods] * 2, np.arange(8), cell=4).set_index(["a", "b"])["value"]
    assert pairs["a", "b"] > 0.8 and abs(pairs["a", "c"]) < 0.3
    check = sanity_check([{"a": methods["a"]}] * 2, [{"a": methods["c"]}] * 2, np.arange(8), cell=4)
    assert check["low"][0] <= check["value"][0] <= check["high"][0] and check["n"][0] == 8


# --- the retina ------------------------------------------------------------------------------------------------------


def scan(size=128, top=50, bottom=75, seed=0, white=False):
    """A dark vitreous, a grey retina that ends in a bright line, and a choroid that fades; tilted by 8 rows."""
    random, rows = np.random.default_rng(seed), np.arange(size)[:, None]
    tilt = np.linspace(0, 8, size)
    grey = np.where(rows < top + tilt, 25, 90) + np.where(rows > bottom + tilt, -60, 0)
    grey = np.where(np.abs(rows - bottom - tilt) <= 2, 200, grey)
    grey = grey + np.where(rows > bottom + tilt + 2, 60 * np.exp(-(rows - bottom - tilt) / 15), 0)
    image = np.clip(grey * random.gamma(8, 1 / 8, (size, size)), 0, 245).astype(np.uint8)
    if white:
        image[rows < 20 - np.arange(size) / 6] = 255
    return image, top + tilt, bottom + tilt


@pytest.mark.parametrize("white", [False, True])
def test_the_retinas_borders_are_found_within_a_few_rows(white):
    image, top, bottom = scan(white=white)
    upper, lower = retina_borders(image)
    assert np.abs(upper - top)[4:-4].max() <= 5
    assert np.abs(lower - bottom)[4:-4].max() <= 8 and np.median(lower - bottom) > 0


def test_the_white_frame_is_no_retina_and_bright_tissue_is_no_frame():
    image, _, _ = scan(white=True)
    frame = frame_of(image)
    assert frame[2, 2] and not frame[60:80].any() and not (retina_mask(image[None])[0] & frame).any()


# --- experts' marks --------------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path):
    Image.fromarray(np.zeros((50, 100), np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(np.full((50, 100), 255, np.uint8)).save(tmp_path / "w.png")
    rows = [(f"CNV-{k}", "i.png", "CNV", f"p{k}", "test", "0" * 64) for k in (1, 2)]
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest"]
    return Catalogue("made", tmp_path, pd.DataFrame(rows, columns=columns), ("CNV", "NORMAL"))


def written(folder, text):
    path = folder / "marks.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_land_on_the_squashed_pixels(catalogue, tmp_path):
    marks = load_marks(written(tmp_path, "image,x,y\nCNV-1,99,0\nCNV-1,50,25\n"), catalogue)
    masks = mark_masks(marks, catalogue, ["CNV-1", "CNV-2"], 20)
    assert np.argwhere(masks[0]).tolist() == [[0, 19], [10, 10]] and not masks[1].any()


def test_a_mark_may_name_an_image_by_its_files_name_where_that_is_no_other_images(catalogue, tmp_path):
    frame = catalogue.frame.assign(image_id=["test/a.png", "test/b.png"], path=["i.png", "other/j.png"])
    named = replace(catalogue, frame=frame)
    marks = load_marks(written(tmp_path, "image,x,y\ni,1,1\ntest/a.png,2,2\n"), named)
    assert marks["image_id"].tolist() == ["test/a.png", "test/a.png"]
    with pytest.raises(UserTableError, match="'i' is not in the data set"):  # two have it
        load_marks(written(tmp_path, "image,x,y\ni,1,1\n"), catalogue)


def test_a_mask_file_lies_over_the_whole_image(catalogue, tmp_path):
    Image.fromarray(np.pad(np.full((25, 50), 255, np.uint8), ((0, 25), (50, 0)))).save(tmp_path / "m.png")
    marks = load_marks(written(tmp_path, "image,mask\nCNV-2,m.png\n"), catalogue)
    assert (mark_masks(marks, catalogue, ["CNV-2"], 20)[0] == square(0, 10, 10, 20)).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a CSV"),
        ("image,x\nCNV-1,3\n", "line 2: x='3', y='': expected two numbers"),
        ("image,x,y\n", "nothing else"),
        ("image,x,y\nCNV-11,3,3\n", "line 2: image 'CNV-11' is not in the data set; did you mean CNV-1"),
        ("image,x,y\nCNV-1,3,3\nCNV-1,three,3\n", "line 3: x='three'"),
        ("image,x,y\nCNV-1,100,3\n", "outside the image, which is 100 x 50"),
        ("image,x,y,mask\nCNV-1,3,3,m.png\n", "x and y, or a mask"),
        ("image,x,y,mask\nCNV-1,,,\n", "x and y, or a mask"),
        ("image,mask\nCNV-1,none.png\n", "cannot be opened"),
        ("image,x,y,mask\nCNV-1,3,3,\nCNV-1,,,w.png\n", "a mask and other marks"),
        ("image,mask\nCNV-1,i.png\n", "no white pixel"),
    ],
)
def test_marks_that_cannot_be_used_say_which_and_why(catalogue, tmp_path, text, message):
    with pytest.raises(UserTableError, match=message):
        load_marks(written(tmp_path, text), catalogue)


def test_a_map_is_set_beside_a_guess_that_sees_no_image_on_the_same_images():
    lungs, masks = np.zeros((2, 6, 24, 24), bool)
    lungs[:, 4:12, 8:24] = True
    masks[:, 8, 16] = True
    masks[3:, 8, 16], masks[3:, 20, 2] = False, True  # half of them far from the middle
    known = {"label": list("aaabbb"), "patient_id": list("pqrstu")}
    middle, sees = middle_of(lungs), maps_of(masks.astype(float))
    assert all(abs(np.subtract(peak_of(one), (7.5, 15.5))).max() <= 1 for one in middle.maps)
    found = {name: localisation(one, masks, 3).assign(**known) for name, one in {"map": sees, "guess": middle}.items()}
    table = against_baseline(found, "guess").set_index(["map", "label", "measure"]).sort_index()
    assert table.loc[("map", "all", "hit"), ["value", "difference"]].tolist() == [1.0, 0.5]
    assert table.loc[("map", "b", "hit"), "difference"] == 1 and table.loc[("map", "a", "hit"), "difference"] == 0
    assert table.loc[("guess", "b", "hit"), "value"] == 0 and table.loc["guess", "difference"].isna().all()
    assert table.loc[("map", "a", "iou"), "chance"] == pytest.approx(1 / 24**2)
    single = table.loc["map"].drop("all")  # two labels by three measures: one family
    assert single["p_holm"].min() == min(1, 6 * single["p"].min()) and single["p"].min() < 0.3
    assert table.loc[("map", "all"), "p_holm"].isna().all() and table.loc["guess", "p"].isna().all()


def test_the_share_in_the_lungs_is_set_beside_their_area_and_flat_maps_have_none():
    lungs, maps = np.zeros((3, 4, 4), bool), np.ones((3, 4, 4))
    lungs[:, 1:3, 1:3] = True
    maps[lungs], maps[2] = 3.0, 0.0
    rows = pd.DataFrame({"label": "a", "patient_id": list("pqr")})
    table = share_in_lungs([maps, maps], Masks(rows, lungs, rows[:0])).set_index(["label", "measure"])
    assert table.loc["all", "value"].tolist() == pytest.approx([0.5, 0.25, 0.25]) and set(table["n"]) == {2}
    found = point(maps_of(maps), lungs & (np.arange(4) < 2), lungs)
    assert found["mass within lungs"].tolist()[:2] == [0.5, 0.5] and np.isnan(found["mass within lungs"][2])
    assert np.isnan(point(maps_of(maps), lungs, 0 * lungs)["mass within lungs_by_chance"]).all()


# --- cases and comparison --------------------------------------------------------------------------------------------


def phantoms(root, marks=""):
    random, rows = np.random.default_rng(0), []
    for label in ("CNV", "DME", "DRUSEN", "NORMAL"):
        for number in range(4):
            name = f"{label}-{number}"
            Image.fromarray(random.integers(0, 200, (30, 40)).astype(np.uint8)).save(root / f"{name}.png")
            Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((10, 10), (15, 15)))).save(root / f"{name}-m.png")
            split = "test" if number else "train"
            rows.append((name, f"{name}.png", label, name, split, "0" * 64, f"{name}-m.png"))
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest", "mask"]
    made = Catalogue("made", root, pd.DataFrame(rows, columns=columns), ("CNV", "DME", "DRUSEN", "NORMAL"))
    return diseased_cases(made, SIZE, 6, 1, marks)


def test_cases_are_test_images_of_the_diseases_in_turn(tmp_path):
    cases = phantoms(tmp_path)
    assert cases.labels == ["DRUSEN", "CNV", "DME"] * 2 and not cases.rows["image_id"].str.endswith("-0").any()
    assert cases.images.shape == cases.masks.shape == (6, SIZE, SIZE) and cases.masks.any(axis=(1, 2)).all()
    assert cases.take(cases.first(1, ("DME", "CNV"))).labels == ["DME", "CNV"]


def test_methods_are_scored_beside_a_guess(tmp_path):
    cases, classifier = phantoms(tmp_path), curved()
    renamed = from_logits(classifier.logits_model, ("CNV", "DME", "DRUSEN"))
    perfect = maps_of(cases.masks.astype(float))
    methods = {"gradient": gradients.gradient(renamed, cases.images, cases.labels), "perfect": perfect}
    table, curves = compare_methods([methods] * 2, cases, [renamed] * 2, 3)
    found = table.set_index(["explainer", "measure"])["value"]
    assert set(table["measure"]) == set(MEASURES) and set(curves) == {"gradient", "perfect", "random order"}
    assert draw_deletion(curves).axes
    assert found["perfect", "hit"] == found["perfect", "mass"] == 1 and found["a guess", "mass"] < 0.5
    assert perfect.take(np.array([1, 3])).maps.shape == (2, SIZE, SIZE)
    each = localised(perfect, cases, 3).assign(size_over_box=np.arange(6.0))
    curve = size_curve({3: pd.concat([each.assign(seed=seed) for seed in (1, 2)]), 4: each.assign(size_over_box=1.0)})
    assert sorted(curve["n"]) == [2, 2, 2, 6]  # an image is in one bin, whatever it was asked by
    assert (curve["value"].dropna() == 1).all() and (curve["chance"] < 1).all()


def test_without_known_lesions_what_needs_none_is_still_scored(tmp_path):
    known, classifier = phantoms(tmp_path), curved()
    cases = replace(known, masks=np.zeros_like(known.masks), lesions="")
    renamed = from_logits(classifier.logits_model, ("CNV", "DME", "DRUSEN"))
    maps = gradients.gradient(renamed, cases.images, cases.labels)
    located = localised(maps, cases, 3)
    table, _ = table_s3(located)
    assert table["images"].tolist() == [0, 0, 0, 0] and table["localisation accuracy"].isna().all()
    curve = size_curve({3: located})
    assert curve.empty and "no lesions are known" in localisation_curve(curve, table).axes[0].texts[0].get_text()
    compared, _ = compare_methods([{"gradient": maps}], cases, [renamed], 3)
    found = compared.set_index(["explainer", "measure"])["value"]
    assert np.isnan(found["gradient", "hit"]) and np.isnan(found["a guess", "mass"])
    assert 0 <= found["gradient", "on retina"] <= 1 and found["gradient", "deletion"] > 0
