"""Linear heads: scikit-learn's, with the scaling undone, and a penalty that validation chooses."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from helpers.model.linear import fit_head, fit_labels

TRAIN, VALIDATION = np.arange(200), np.arange(200, 300)
SPLIT = np.repeat(["train", "validation"], (200, 100))


def problem(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that differ in size, one of which never varies, and class codes that two of them show."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(classes, size=300)
    features = rng.normal(10, 3, (300, 5)) + codes[:, None] * [3, 1.5, 0, 0, 0]
    features[:, 4] = 7.0
    return (features * [1, 10, 0.1, 1, 1]).astype(np.float32), codes


@pytest.mark.parametrize("classes", ["ab", "abc"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_head_gives_scikit_learns_probabilities_on_standardised_features(classes, weighted):
    features, codes = problem(len(classes))
    weights = np.random.default_rng(1).uniform(0.5, 2, 300) if weighted else None
    share = np.ones(300) if weights is None else weights
    found = fit_head(features, np.array(list(classes))[codes], SPLIT, classes, (0.01, 1.0), weights)
    deviation = features[TRAIN].std(axis=0)
    z = (features - features[TRAIN].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    for head, entropy in zip(found.heads, found.entropies, strict=True):
        model = LogisticRegression(C=1 / (2 * head.l2 * share[TRAIN].sum()), tol=1e-8)
        expected = model.fit(z[TRAIN], codes[TRAIN], share[TRAIN]).predict_proba(z)
        np.testing.assert_allclose(head.predict(features), expected, atol=5e-3)
        loss = -np.log(expected[VALIDATION, codes[VALIDATION]])
        assert entropy == pytest.approx(np.average(loss, weights=share[VALIDATION]), abs=5e-3)


def test_validation_chooses_the_penalty_and_of_equal_ones_the_largest():
    features, codes = problem(2)
    labels = np.array(["a", "b"])[codes]
    found = fit_head(features, labels, SPLIT, "ab", (0.001, 0.1, 100.0))
    assert [head.l2 for head in found.heads] == [100.0, 0.1, 0.001] and found.best.l2 < 100
    constant = np.ones_like(features)  # from which every penalty gives the same
    assert fit_head(constant, labels, SPLIT, "ab", (0.001, 100.0)).best.l2 == 100


def test_what_cannot_be_learnt_from_is_refused():
    features, codes = problem(2)
    labels = np.array(["a", "b"])[codes]
    with pytest.raises(ValueError, match="no training image of z"):
        fit_head(features, labels, SPLIT, "abz", (0.1,))
    with pytest.raises(ValueError, match="no validation image"):
        fit_head(features, labels, SPLIT[:200], "ab", (0.1,))
    with pytest.raises(ValueError, match="other than a, b"):
        fit_head(features, np.append(labels[:-1], "c"), SPLIT, "ab", (0.1,))
    with pytest.raises(ValueError, match="no training image of Mass"):
        fit_labels(features, np.stack([codes == 1, codes > 5], axis=1), SPLIT, ("Effusion", "Mass"), (0.1,))


def test_each_label_is_learnt_by_itself_with_a_penalty_of_its_own():
    features, codes = problem(2)
    random = np.random.default_rng(3)
    features = np.hstack([features, random.normal(size=(300, 60)).astype(np.float32)])
    truth, penalties = np.stack([codes == 1, random.random(300) < 0.4], axis=1), (0.1, 100.0)
    found = fit_labels(features, truth, SPLIT, ("Effusion", "Mass"), penalties)
    assert found.l2.tolist() == [0.1, 100.0]  # of the noise there is nothing to learn
    one = fit_head(features, np.array(["no", "yes"])[codes], SPLIT, ("no", "yes"), penalties).best
    np.testing.assert_allclose(found.predict(features)[:, 0], one.predict(features)[:, 1], atol=1e-4)


def test_a_label_without_positives_in_validation_takes_the_penalty_that_is_best_for_all():
    features, codes = problem(2)
    rare = np.zeros(300, bool)
    rare[:5] = True
    truth = np.stack([codes == 1, rare], axis=1)
    assert fit_labels(features, truth, SPLIT, ("Effusion", "Hernia"), (0.001, 100.0)).l2[1] == 0.001
