"""Is the pneumonia network worth its time? Folds by patient of the training folder; the test folder stays shut.

    python benchmarks/pneumonia_recipe.py                                                          phantoms
    python benchmarks/pneumonia_recipe.py --profile paper data_dir=/path/to/data backbone=MobileNetV2

Every patient of the training folder is held out once, and a tenth of the others validates. Compared on the images held
out, all folds together: a last layer on the frozen features of the same depths, the profile's recipe and its members
(networks, support vector machines), and with `--against "finetune_networks=1 finetune_learning_rate=0.0005"` another
one. `key=value` words change the profile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from helpers.data.splits import hold_out
from helpers.kermany import pneumonia
from helpers.metrics.auroc import auroc, compare_aurocs
from helpers.model.networks import Images, run_network
from helpers.run.profile import Profile, load_profile, parse_overrides
from helpers.run.stages import Parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value")
    parser.add_argument("--profile", default="phantom")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, default=0, help="so many of the folds, the first ones; 0: all")
    parser.add_argument("--against", default="", help="key=value words of another recipe")
    given = parser.parse_args()
    base = parse_overrides(given.overrides)
    recipes = {"profile": load_profile(given.profile, base)}
    if given.against:
        recipes[given.against] = load_profile(given.profile, base | parse_overrides(given.against))
    print(measure(recipes, given.folds, given.only).to_string(index=False))


def measure(recipes: dict[str, Profile], folds: int, only: int = 0) -> pd.DataFrame:
    """A row a way and question: AUROC (DeLong), its difference from the last layer (paired), seconds of training."""
    first = next(iter(recipes.values()))
    parts = Parts(first, "xray")
    catalogue, frame = parts.catalogue, parts.split.frame
    frame = frame[frame["published_split"] == "train"].reset_index(drop=True)
    said: dict[str, list[pd.DataFrame]] = {}
    seconds: dict[str, float] = {}
    for split in list(folded(frame, folds, first))[: only or folds]:
        images = Images(catalogue, split)
        said.setdefault("last layer", []).append(last_layer(images, first))
        for name, profile in recipes.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                made = run_network("referral_finetuned", images, profile, Path(folder))
                seconds[name] = seconds.get(name, 0) + time.perf_counter() - began
                apart = made.table("members")
            ways = {name: made.scores[made.scores["selection"] == "validation"]}
            if apart["member"].nunique() > 1:
                ways |= {f"{name}, {member} alone": rows for member, rows in apart.groupby("member")}
            for way, rows in ways.items():
                said.setdefault(way, []).append(rows[rows["split"] == "test"])
    whole = {name: pd.concat(made, ignore_index=True) for name, made in said.items()}
    return pd.DataFrame([row for q in pneumonia.QUESTIONS for row in _rows(whole, q, seconds)])


def folded(frame: pd.DataFrame, folds: int, profile: Profile):
    """The frame once a fold, with its patients as "test" and a part of the others as "validation"."""
    from sklearn.model_selection import StratifiedGroupKFold

    drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=profile.seed)
    for _, out in drawn.split(frame, frame["label"], frame["patient_id"]):
        rest = frame.drop(index=out).assign(split="train")
        rest = hold_out(rest, profile.validation_fraction, profile.seed)
        rest = rest.assign(split=rest["split"].replace("held-out", "validation"))
        yield pd.concat([rest, frame.iloc[out].assign(split="test")], ignore_index=True)


def last_layer(images: Images, profile: Profile) -> pd.DataFrame:
    """Scores of the fold's test images by the layer that fine-tuning starts from."""
    from helpers.kermany.referral_network import REFERRAL, head_on
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import with_depths
    from helpers.model.experiments import scores_of
    from helpers.model.features import extract_for

    backbone = load_backbone(profile.backbone, profile.weights, profile.finetune_size, profile.seed)
    backbone = with_depths(backbone, profile.finetune_depths)
    rows = images.frame[images.frame["split"] == "test"].reset_index(drop=True)
    head = head_on(images, images.frame, backbone, profile)
    known = images.catalogue.frame
    shown = images.catalogue.subset(known[known["image_id"].isin(images.frame["image_id"])])
    features = extract_for(profile, shown, backbone).of(rows["image_id"])
    return scores_of(rows, head.predict(features), REFERRAL, "validation")


def _rows(whole: dict[str, pd.DataFrame], question: str, seconds: dict[str, float]):
    positive = pneumonia.QUESTIONS[question][0]
    ways = {name: pneumonia.asked(scores, question).sort_values("image_id") for name, scores in whole.items()}
    start = ways["last layer"][f"p_{positive}"]
    for name, scores in ways.items():
        truth, score = scores["label"] == positive, scores[f"p_{positive}"]
        gained = compare_aurocs(truth, score, start).difference if name != "last layer" else None
        told = {
            "question": pneumonia.TITLES[question],
            "way": name,
            "n": len(scores),
            "AUROC": auroc(truth, score).percent(),
        }
        yield told | {
            "more than the last layer": gained.percent() if gained else "",
            "seconds": round(seconds.get(name, 0)),
        }


if __name__ == "__main__":
    main()
