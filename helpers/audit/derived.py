"""Printed numbers that follow from other printed numbers: what the audit can obtain without an image."""

from __future__ import annotations

from helpers.audit.facts import Facts
from helpers.audit.zech_quoted import RAJPURKAR, READERS

K, R, G = "kermany2018", "rajkomar2017", "zech2018.generalization.data"
SPLITS = ("train_images", "validation_images", "test_images", "excluded")


def derived(facts: Facts) -> dict[str, float]:
    """Ids of published numbers with this notebook, and what the same text's other numbers make of them."""

    def total(prefix: str, *names: str) -> float:
        return sum(fact.value for fact in facts.get(prefix, *names))

    steps, batch, images = facts.get(K, "oct.setting.steps", "setting.batch", "oct.data.train_images")
    return {
        f"{K}.oct.setting.epochs": round(steps.value * batch.value / images.value, 1),
        f"{R}.data.studies": total(f"{R}.data", "studies_two_view", "studies_single_view"),
        f"{R}.data.images": total(f"{R}.data", *SPLITS),
        f"{R}.data.all_test_images": total(f"{R}.data", "test_images", "public_images"),
        f"{G}.msh_nih": total(G, "msh", "nih"),
        f"{G}.msh_nih_iu": total(G, "msh", "nih", "iu"),
        f"{RAJPURKAR}.f1.radiologists": total(f"{RAJPURKAR}.f1", *READERS) / len(READERS),
    }
