"""Phantoms with fourteen labels: several an image, wrong as often as asked, patients never in two parts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.phantoms import nih as phantom_nih
from helpers.phantoms.chest import one
from helpers.phantoms.chest_nih_plan import REAL_IMAGES, plan_nih, prevalences
from helpers.zech import data as nih
from helpers.zech.data import FINDINGS

PLAN = {"images": 1500, "seed": 1, "test_share": 0.2}


def drawn(plan):
    return nih.split_labels(plan["findings"].replace("NORMAL", nih.NONE))


class TestPhantomNih(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return phantom_nih.load(folder, images=40, seed=3, test_share=0.3, label_noise=0.1, workers=1)

    def test_its_labels_are_a_table_of_fourteen(self, catalogue):
        table = nih.labels(catalogue)
        assert list(table.columns) == ["image_id", *FINDINGS]
        assert (table[list(FINDINGS)].any(axis=1) == (catalogue.frame["label"] == "Finding")).all()

    def test_without_its_labels_it_has_one_label_an_image_not_fourteen(self, catalogue):
        with pytest.raises(CatalogueError, match="one label each"):
            nih.labels(catalogue.subset(catalogue.frame.drop(columns="labels")))


def test_patients_are_in_one_part_and_shares_are_as_asked():
    plan = plan_nih(**PLAN, label_noise=0.0)
    assert len(plan) == 1500 and plan["image_id"].is_unique
    assert (plan.groupby("patient_id")["published_split"].nunique() == 1).all()
    tested = plan.drop_duplicates("patient_id")["published_split"].eq("test").mean()
    assert tested == pytest.approx(0.2, abs=0.005)


def test_prevalences_differ_in_the_order_of_the_real_ones_and_every_label_can_be_tested():
    plan = plan_nih(**PLAN, label_noise=0.0)
    found, share = drawn(plan), prevalences()
    assert sorted(share, key=share.get)[-1] == "Infiltration" == max(REAL_IMAGES, key=REAL_IMAGES.get)
    first = ~plan["patient_id"].duplicated()  # on follow-ups some findings have passed
    assert np.abs(found[first].mean() - pd.Series(share)).max() < 0.04
    assert found[plan["published_split"] == "test"].sum().min() >= 5
    assert (found.sum(axis=1) > 1).mean() > 0.15


def test_without_noise_labels_are_what_is_drawn_and_with_it_they_differ_as_asked():
    clean, noisy = plan_nih(**PLAN, label_noise=0.0), plan_nih(**PLAN, label_noise=0.2)
    pd.testing.assert_frame_equal(nih.split_labels(clean["labels"]), drawn(clean))
    assert (clean["findings"] == noisy["findings"]).all()  # noise changes what is said, not what is there
    missed = 1 - (nih.split_labels(noisy["labels"]) & drawn(noisy)).to_numpy().sum() / drawn(noisy).to_numpy().sum()
    assert missed == pytest.approx(0.2, abs=0.03)
    assert nih.split_labels(noisy["labels"]).mean().sum() == pytest.approx(drawn(noisy).mean().sum(), rel=0.1)


def test_lasting_findings_are_on_all_images_of_a_patient():
    plan = plan_nih(**PLAN, label_noise=0.0)
    found = drawn(plan)[["Cardiomegaly", "Hernia", "Mass"]]
    assert (found.groupby(plan["patient_id"]).nunique() == 1).all(axis=None)


def test_each_finding_may_have_a_severity_of_its_own():
    faint = one(("Mass", "Effusion"), (0.1, 0.9), 1, patient=5)
    plain = one(("Mass", "Effusion"), (0.9, 0.9), 1, patient=5)
    same = one(("Mass", "Effusion"), 0.9, 1, patient=5)
    assert (plain[0] == same[0]).all() and (faint[0] != plain[0]).any()
    with pytest.raises(ValueError, match="1 severities for 2 findings"):
        one(("Mass", "Effusion"), (0.1,), 1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        one(("Mass", "Effusion"), (0.1, 1.2), 1)


@pytest.mark.parametrize("wrong", [{"images": 10}, {"test_share": 1.0}, {"label_noise": 0.6}, {"seed": -1}])
def test_impossible_numbers_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        phantom_nih.load(tmp_path, **({"images": 60, "seed": 1} | wrong))


def test_texts_of_labels_and_tables_of_labels_are_the_same_thing():
    texts = pd.Series(["Effusion|Mass", "No Finding", "Hernia"])
    assert nih.joined(nih.split_labels(texts)).tolist() == texts.tolist()
    assert nih.label_of(texts).tolist() == ["Finding", "No Finding", "Finding"]
    with pytest.raises(CatalogueError, match="Gout"):
        nih.split_labels(pd.Series(["Gout|Mass"]))
