"""Support vector machines on several depths: what they learn, what they refuse, and what stays untouched."""

import joblib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from helpers.kermany.kernel_machines import FOLDS, train_kernel_machines
from helpers.model.depths import last_maps, with_deviations

CLASSES = ("NORMAL", "BACTERIA", "VIRUS")
DEPTHS = (slice(0, 4), slice(4, 10))


def rings(count, seed):
    """Looks (2, n, 10) whose classes are distances from the middle: no linear layer tells them apart."""
    random = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    looks = []
    for _ in range(2):
        one = random.normal(size=(count, 10))
        for depth in DEPTHS:
            part = one[:, depth]
            one[:, depth] = part / np.linalg.norm(part, axis=1, keepdims=True) * (1 + codes[:, None])
        looks.append(one + random.normal(0, 0.1, one.shape))
    return np.array(looks, np.float32), codes


@pytest.fixture(scope="module")
def trained():
    looks, codes = rings(150, 0)
    return train_kernel_machines(looks, DEPTHS, codes, np.arange(150) // 2, CLASSES, 1)


def test_what_no_linear_layer_could_tell_is_told_with_probabilities_that_sum_to_one(trained):
    looks, codes = rings(90, 1)
    given = trained.predict(looks)
    assert given.dtype == np.float32 and given.shape == (90, 3)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-6)
    assert all(roc_auc_score(codes == k, given[:, k]) > 0.95 for k in range(3))
    assert trained.predict(looks[:, :0]).shape == (0, 3)


def test_looks_are_averaged_and_their_order_does_not_matter(trained):
    looks, _ = rings(12, 2)
    np.testing.assert_allclose(trained.predict(looks), trained.predict(looks[::-1]), atol=1e-6)
    assert np.abs(trained.predict(looks) - trained.predict(looks[:1])).max() > 1e-3


def test_labels_without_meaning_give_probabilities_that_know_it():
    """Fitted on the machines' own training rows they would be near 0 and 1."""
    random = np.random.default_rng(3)
    looks, codes = random.normal(size=(1, 120, 10)).astype(np.float32), np.arange(120) % 3
    machines = train_kernel_machines(looks, DEPTHS, codes, np.arange(120), CLASSES)
    assert machines.predict(random.normal(size=(1, 60, 10)).astype(np.float32)).max() < 0.7


def test_the_same_seed_gives_the_same_machines_and_they_can_be_kept(trained, tmp_path):
    looks, codes = rings(150, 0)
    again = train_kernel_machines(looks, DEPTHS, codes, np.arange(150) // 2, CLASSES, 1)
    trained.save(tmp_path / "machines.joblib")
    loaded = joblib.load(tmp_path / "machines.joblib")
    for other in (again, loaded):
        np.testing.assert_allclose(other.predict(looks), trained.predict(looks), atol=1e-6)


def test_two_classes_do_as_well():
    looks, codes = rings(90, 4)
    two = np.minimum(codes, 1)
    machines = train_kernel_machines(looks, DEPTHS, two, np.arange(90), CLASSES[:2])
    assert roc_auc_score(two, machines.predict(looks)[:, 1]) > 0.95


def test_when_features_or_patients_are_of_no_use_then_it_is_said(trained):
    looks, codes = rings(30, 5)
    few = np.where(codes == 2, 7, np.arange(30))
    with pytest.raises(ValueError, match=f"fewer than {FOLDS} training patients of VIRUS"):
        train_kernel_machines(looks, DEPTHS, codes, few, CLASSES)
    with pytest.raises(ValueError, match="NaN"):
        train_kernel_machines(looks * np.nan, DEPTHS, codes, np.arange(30), CLASSES)
    with pytest.raises(ValueError, match=r"\(looks, images, 10\) are expected"):
        trained.predict(looks[..., :9])


def test_averages_and_deviations_are_those_of_the_last_maps():
    import keras

    from helpers.model.backbones import load_backbone

    backbone = load_backbone("SmallNet", "none", 64)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    made, depths = with_deviations(backbone, 2)
    found = made.model.predict_on_batch(image)
    assert made.features == found.shape[1] == depths[-1].stop and made.weights_digest != backbone.weights_digest
    for one, depth in zip(last_maps(backbone.model)[-2:], depths, strict=True):
        values = keras.Model(backbone.model.input, one).predict_on_batch(image)
        expected = np.concatenate([values.mean(axis=(1, 2)), values.std(axis=(1, 2))], axis=1)
        np.testing.assert_allclose(found[:, depth], expected, rtol=1e-3, atol=1e-4)
