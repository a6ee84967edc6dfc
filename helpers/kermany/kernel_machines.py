"""Support vector machines on frozen features of several depths, whose decisions are averaged and made probabilities.

Beyond the papers, which put one linear layer on the deepest features. What tells bacterial from viral pneumonia is no
direction of those: on published training radiographs (1,381 pneumonias, MobileNetV2, 3 folds by patient) the AUROC was
71.8 % (68.9 to 74.5) with a linear layer, 79.5 % (77.0 to 81.8) with machines. So says

    python benchmarks/pneumonia_recipe.py --profile paper data_dir=... backbone=MobileNetV2 finetune_networks=1 \\
        finetune_epochs=1

They may travel badly: of phantoms, pneumonia against normal, machines alone are as good as a fine-tuned network on
images held out of the training folder (97.5 and 97.4 %), and worse on the test folder (86.6 and 95.4 %; notebook 07).
The width of the kernel is scikit-learn's, 1 / features of standardised features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helpers.run.provenance import write_atomically

PENALTY = 2.0  # C of the machines
FOLDS = 5  # by patient, for the decisions that probabilities are fitted on


@dataclass(frozen=True)
class KernelMachines:
    """A machine a depth, on the columns of `depths`, and a softmax regression from mean decisions to `classes`."""

    classes: tuple[str, ...]
    depths: tuple[slice, ...]
    machines: tuple[Any, ...]
    calibration: Any

    def predict(self, looks: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), of features (looks, n, d): looks at an image are averaged."""
        if looks.ndim != 3 or looks.shape[2] != self.depths[-1].stop:
            raise ValueError(f"features of shape {looks.shape}; (looks, images, {self.depths[-1].stop}) are expected")
        if not looks.shape[1]:
            return np.empty((0, len(self.classes)), np.float32)
        said = [
            _rows(machine.decision_function(look[:, depth]))
            for look in looks
            for machine, depth in zip(self.machines, self.depths, strict=True)
        ]
        return self.calibration.predict_proba(np.mean(said, axis=0)).astype(np.float32)

    def save(self, path: Path) -> None:
        """With joblib, as scikit-learn has it: to be loaded by the same version, and from trusted files only."""
        import joblib

        write_atomically(Path(path), lambda file: joblib.dump(self, file))


def train_kernel_machines(
    looks: np.ndarray,
    depths: Sequence[slice],
    codes: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    seed: int = 0,
) -> KernelMachines:
    """Machines on all rows of features (looks, n, d), `codes` (n,) being positions in `classes`.

    Probabilities are fitted (Platt 1999, for more than two classes) on decisions for patients that a machine did not
    learn from, in `FOLDS` folds of these rows: nothing held out is touched. Memory grows with (looks * n) squared.
    Raises `ValueError` where a class has fewer than `FOLDS` patients, or a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    codes, patients, classes = np.asarray(codes), np.asarray(patients), tuple(classes)
    few = [name for code, name in enumerate(classes) if len(set(patients[codes == code])) < FOLDS]
    if few:
        raise ValueError(
            f"fewer than {FOLDS} training patients of {', '.join(few)}: support vector machines cannot be calibrated; "
            "FINETUNE_KERNEL_SHARE=0 does without them"
        )
    if not np.isfinite(looks).all():
        raise ValueError("the features hold NaN or infinity")
    count = len(looks)
    given, said = looks.reshape(-1, looks.shape[2]), np.tile(codes, count)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = list(folds.split(given, said, np.tile(patients, count)))  # a patient's images and their looks stay together
    machines, decisions = [], []
    for depth in depths:
        held_out = cross_val_predict(_machine(), given[:, depth], said, cv=parts, method="decision_function")
        decisions.append(_rows(held_out).reshape(count, len(codes), -1))
        machines.append(_machine().fit(given[:, depth], said))
    calibration = LogisticRegression(C=1.0, max_iter=1000).fit(np.mean(decisions, axis=(0, 1)), codes)
    return KernelMachines(classes, tuple(depths), tuple(machines), calibration)


def _machine() -> Any:
    """One against one: bacterial against viral is then not blurred by what is normal."""
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    # As a function the kernel is one matrix product; by name it is libsvm's own loop, which takes longer.
    return make_pipeline(StandardScaler(), SVC(C=PENALTY, kernel=rbf_kernel, decision_function_shape="ovo"))


def _rows(decisions: np.ndarray) -> np.ndarray:
    """(n, pairs of classes); two classes have one pair, which scikit-learn gives as (n,)."""
    return decisions.reshape(len(decisions), -1)
