"""Counts for figure 2B and table S1, and the choice of example images."""

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.data.examples import choose_examples, read_examples
from helpers.data.splits import split
from helpers.kermany.data import flow_boxes, patient_characteristics

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def catalogue(tmp_path, patients=4):
    rows = []
    for folder in ("train", "test"):
        for label in CLASSES:
            for patient in range(patients):
                for n in (1, 2):
                    name = f"{folder}-{label}-{patient}-{n}"
                    Image.fromarray(np.full((8, 9), 99, np.uint8)).save(tmp_path / f"{name}.png")
                    rows.append((name, f"{name}.png", label, f"{folder}{label}{patient}", folder, name))
    frame = pd.DataFrame(rows, columns=["image_id", "path", "label", "patient_id", "published_split", "digest"])
    excluded = pd.DataFrame({"path": ["bad.png"], "reason": ["0 bytes"]})
    return Catalogue("toy", tmp_path, frame, CLASSES, excluded)


def test_the_flow_counts_every_image_once(tmp_path):
    toy = catalogue(tmp_path)
    boxes, aside = flow_boxes(toy, split(toy, "patient-disjoint", 0.25, 1))
    counts = dict(boxes)
    assert counts["Images found"] == "65 images" and "1 unreadable" in aside[0]
    assert counts["Training"].startswith("24 images of 12 patients") and "6 DME" in counts["Training"]
    assert counts["Test: looked at once"].startswith("32 images of 16 patients")


def test_table_s1_counts_patients_and_images_of_each_class(tmp_path):
    table = patient_characteristics(catalogue(tmp_path))
    assert list(table["split"].unique()) == ["train", "test"] and len(table) == 8
    assert set(table["patients"]) == {4} and set(table["images"]) == {8}
    assert set(table["images a patient: median (range)"]) == {"2 (2 to 2)"}


def test_examples_are_of_different_training_patients_and_follow_from_the_seed(tmp_path):
    toy = catalogue(tmp_path)
    chosen = choose_examples(toy, 3, seed=1)
    assert set(chosen["published_split"]) == {"train"}
    assert chosen.groupby("label")["patient_id"].nunique().to_dict() == dict.fromkeys(CLASSES, 3)
    assert chosen.equals(choose_examples(toy, 3, seed=1)) and not chosen.equals(choose_examples(toy, 3, seed=2))
    images, masks = read_examples(toy, chosen)
    assert masks is None and [image.shape for image in images["DME"]] == [(8, 9)] * 3
