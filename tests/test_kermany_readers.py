"""The reader file's errors, simulated readers, and readers beside the model."""

import numpy as np
import pandas as pd
import pytest

from helpers.data.catalogue import Catalogue, UserTableError
from helpers.kermany import readers
from helpers.kermany.data import is_urgent
from helpers.kermany.numbers import PENALTIES, weighted_error
from helpers.metrics.classification import rates

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
GOOD = "reader,image,label\nDr A,CNV-1-1,CNV\nDr A,DME-2-1,CNV\nDr B,CNV-1-1,DRUSEN\n"


def load(folder, text):
    (folder / "readers.csv").write_text(text, encoding="utf-8")
    rows = {"image_id": ["CNV-1-1", "DME-2-1", "NORMAL-3-1"], "path": ["a/1.png", "a/2.png", "a/3.png"]}
    frame = pd.DataFrame(rows).assign(label="CNV", patient_id="p", published_split="test", digest="d")
    return readers.load_readers(folder / "readers.csv", Catalogue("tiny", folder, frame, CLASSES))


def test_a_good_file_is_read_as_it_stands(tmp_path):
    rows = [line.split(",") for line in GOOD.splitlines()[1:]]
    expected = pd.DataFrame(rows, columns=["reader", "image_id", "label"]).assign(simulated=False)
    pd.testing.assert_frame_equal(load(tmp_path, GOOD), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "Dr B,CNV-1-7,CNV\n", r"line 5: image 'CNV-1-7' is not in the data set; did you mean CNV-1-1\?"),
        (GOOD + "Dr B,DME-2-1,druzen\n", r"line 5: label 'druzen' is not a class; did you mean DRUSEN\?"),
        (GOOD + "\nDr B,CNV-1-1,CNV\n", "line 6: reader 'Dr B' has already read image 'CNV-1-1'"),
        (GOOD + "model,CNV-1-1,CNV\n", "line 5: a reader may not be called 'model'"),
        ("reader,image\nDr A,CNV-1-1\n", "no column label"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_the_nearest_name(tmp_path, text, message):
    with pytest.raises(UserTableError, match=message):
        load(tmp_path, text)


def images(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image_id": [f"image {i:04d}" for i in range(n)], "label": np.resize(CLASSES, n)})
    return frame.assign(severity=rng.random(n), quality=rng.uniform(0.3, 1, n))


def judged(frame, seed):
    return readers.simulate_readers(frame, CLASSES, seed=seed).merge(frame, on="image_id", suffixes=("", "_true"))


def test_simulated_reads_follow_the_seed_and_not_the_order_of_rows():
    frame = images(80)
    one = readers.simulate_readers(frame, CLASSES, seed=5)
    assert one["simulated"].all() and (one.groupby("reader")["image_id"].nunique() == 80).all()
    pd.testing.assert_frame_equal(readers.simulate_readers(frame.sample(frac=1, random_state=0), CLASSES, seed=5), one)
    assert not readers.simulate_readers(frame, CLASSES, seed=6)["label"].equals(one["label"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulated_readers_err_about_as_much_as_kermanys_experts(seed):
    errors = [
        weighted_error(one["label_true"], one["label"], PENALTIES, one["image_id"]).value
        for _, one in judged(images(seed=seed), seed=seed).groupby("reader")
    ]
    assert 0.025 < np.mean(errors) < 0.08  # published mean 4.8 %, range 0.4 to 10.5 %
    assert min(errors) < 0.03 and 0.06 < max(errors) < 0.18


def test_simulated_readers_err_more_on_subtle_and_on_noisy_images():
    reads = judged(images(2000), seed=1)
    wrong = reads["label"] != reads["label_true"]
    lesion = reads["label_true"] != "NORMAL"
    assert wrong[lesion & (reads["severity"] < 0.3)].mean() > 2 * wrong[lesion & (reads["severity"] > 0.7)].mean()
    assert wrong[reads["quality"] < 0.5].mean() > 1.3 * wrong[reads["quality"] > 0.8].mean()


def scored(frame, right=0.95, seed=3):
    """A scores frame whose most probable class is the true one with chance `right`."""
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(len(frame)) < right, frame["label"], rng.choice(CLASSES, len(frame)))
    chances = pd.DataFrame({f"p_{name}": np.where(predicted == name, 0.7, 0.1) for name in CLASSES})
    patients = [f"patient {i // 2}" for i in range(len(frame))]
    return frame[["image_id", "label"]].assign(patient_id=patients, split="test").join(chances)


def test_statistics_stand_for_the_model_and_each_reader():
    frame = images(200)
    reads, scores = readers.simulate_readers(frame, CLASSES, readers=2), scored(frame)
    table = readers.reader_statistics(reads, scores, CLASSES)
    assert table.groupby("reader", sort=False).size().to_dict() == {"model": 6, "Reader 1": 6, "Reader 2": 6}
    counts = {who: found.to_numpy().sum() for who, found in readers.reader_confusions(reads, scores, CLASSES).items()}
    assert counts == dict.fromkeys(("model", "Reader 1", "Reader 2"), 200)
    assert set(readers.reader_statistics(reads[:0], scores, CLASSES)["reader"]) == {"model"}
    one = reads[reads["reader"] == "Reader 2"].merge(frame, on="image_id", suffixes=("", "_true"))
    value = table.query("reader == 'Reader 2' and statistic == 'sensitivity'")["value"].item()
    assert value == rates(is_urgent(one["label_true"]), is_urgent(one["label"]))["sensitivity"].value


def test_the_model_is_compared_on_the_images_a_reader_read():
    frame = images(8)
    scores = scored(frame, right=1.0)
    reads = pd.DataFrame({"reader": "Dr A", "image_id": frame["image_id"][:5], "label": "CNV"})  # right on 0 and 4
    table = readers.model_against_readers(reads, scores, CLASSES).set_index("question")
    label, referral = table.loc["label"], table.loc["referral"]
    assert (label["both"], label["only_model"], label["only_reader"], label["neither"]) == (2, 3, 0, 0)
    assert (referral["both"], referral["only_model"], referral["n"]) == (3, 2, 5)
    assert label["difference"] == pytest.approx(0.6) and label["p by image"] == pytest.approx(0.25)
    several = readers.model_against_readers(readers.simulate_readers(frame, CLASSES, readers=6), scores, CLASSES)
    assert several["p_holm"].min() == pytest.approx(min(1, 12 * several["p"].min()))  # both questions are one family


def test_readers_are_compared_by_patient_first():
    frame = images(120)
    scores = pd.concat([scored(frame).assign(image_id=frame["image_id"] + f"/{k}") for k in range(4)])
    reads = scores[["image_id"]].assign(
        reader="Dr A", label=[*scored(frame, 0.85, seed=9).filter(like="p_").idxmax(axis=1).str[2:]] * 4
    )
    table = readers.model_against_readers(reads, scores, CLASSES)  # each image four times: no more evidence than once
    once = readers.model_against_readers(reads[:120], scores[:120], CLASSES)
    np.testing.assert_allclose(table["p"], once["p"], rtol=1e-9)
    assert (table["p by image"] < table["p"] / 3).all()


def test_the_range_of_weighted_errors_is_over_readers_and_not_over_networks():
    rows = {"reader": ["model", "limited model", "A", "B", "C"], "value": [0.5, 0.9, 0.01, 0.03, 0.05]}
    found = readers.weighted_error_range(table := pd.DataFrame(rows).assign(statistic="weighted error"))
    assert (found["weighted_error_lowest"].value, found["weighted_error_highest"].value) == (0.01, 0.05)
    mean = found["weighted_error_mean"]  # 0.03, t(2) = 4.3027, deviation 0.02 of three
    assert mean.value == pytest.approx(0.03) and mean.high == pytest.approx(0.03 + 4.3027 * 0.02 / 3**0.5, abs=1e-4)
    assert mean.low == 0 and found["count"].value == 3
    assert readers.weighted_error_range(table[:2]) == {}
    alone = readers.weighted_error_range(table[:3])  # one reader has no range
    assert not any(alone[f"weighted_error_{name}"].bounded for name in ("lowest", "highest", "mean"))
