"""Networks from several seeds used as one, the cosine schedule, and AdamW's own decay."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from killed_training import CLASSES, SIZE, backbone  # noqa: E402

from helpers.model.finetune import ArraySource, FinetuneSettings, finetune  # noqa: E402
from helpers.model.finetune_network import assemble, compile_network, set_head, set_trainable  # noqa: E402
from helpers.model.finetune_several import finetune_several  # noqa: E402

SHORT = FinetuneSettings(epochs=3, batch=7, learning_rate=0.01, seed=3, optimizer="adamw", schedule="cosine", warm_up=1)
CODES = np.arange(20) % 2
SPLIT = np.array(["train"] * 14 + ["validation"] * 6)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    made = random.integers(60, 160, (20, SIZE, SIZE)).astype(np.float64)
    made[CODES == 1, ::2] *= 0.6
    made[:, :, : SIZE // 2] *= 0.8  # no image is its own mirror image
    return made.astype(np.uint8)


@pytest.fixture(scope="module")
def several(images):
    return train(images)


def train(images, folder=None, networks=2, mirror=True):
    source = ArraySource(images)
    made = (networks, backbone(), lambda seed: source, source, CODES, SPLIT, CLASSES, SHORT)
    return finetune_several(*made, checkpoints=folder, mirror=mirror)


def test_several_networks_give_the_mean_of_all_looks(images, several):
    looks = [run.predict(part) for run in several.runs for part in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(several.predict(images), np.mean(looks, axis=0), atol=1e-6)
    assert np.abs(looks[0] - looks[2]).max() > 1e-4  # another seed is another network
    assert several.selections == ("validation",)
    assert several.history.groupby("network")["epoch"].max().to_dict() == {1: 3, 2: 3}


def test_one_network_without_a_mirror_is_that_network(images):
    source = ArraySource(images)
    alone = finetune(backbone(), source, source, CODES, SPLIT, CLASSES, SHORT)
    one = train(images, networks=1, mirror=False)
    np.testing.assert_allclose(one.predict(images), alone.predict(images), atol=1e-5)


def test_each_network_has_checkpoints_and_files_of_its_own_and_none_is_trained_twice(images, tmp_path, monkeypatch):
    from helpers.model import finetune_loop

    first = train(images, tmp_path)
    assert [len(list((tmp_path / f"network_{i}").glob("*.npz"))) for i in (1, 2)] == [1, 1]
    monkeypatch.setattr(finetune_loop.Trainer, "_step", lambda *_: pytest.fail("a step was made"))
    again = train(images, tmp_path)
    np.testing.assert_array_equal(again.predict(images), first.predict(images))
    again.save(tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"network_1", "network_2"}


def test_the_cosine_rises_to_the_rate_in_the_warm_up_and_falls_to_nothing(several):
    rates = several.history.query("network == 1 and split == 'train'")["learning_rate"].tolist()
    assert rates == pytest.approx([0.01, 0.005, 0.0], abs=1e-6)


def test_adamw_shrinks_kernels_and_leaves_biases_and_normalisations(images):
    def after_a_step(decay):
        settings = replace(SHORT, weight_decay=decay, schedule="steps", warm_up=0)
        logits, _ = assemble(backbone(), 2, settings)
        set_head(logits, None, 1)
        set_trainable(logits, "all")
        compile_network(logits, settings, "float32")
        before = {w.path: np.array(w) for w in logits.trainable_variables}
        logits.train_on_batch(images[:6, ..., None].astype(np.float32), np.eye(2, dtype=np.float32)[CODES[:6]])
        return before, {w.path: np.array(w) for w in logits.trainable_variables}

    before, plain = after_a_step(0.0)
    _, decayed = after_a_step(0.5)
    for path, value in before.items():
        shrunk = 0.01 * 0.5 * value if path.endswith("kernel") else 0.0
        np.testing.assert_allclose(plain[path] - decayed[path], shrunk, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"warm_up": 3}, {"warm_up": 1, "schedule": "steps"}, {"schedule": "linear"}])
def test_when_a_schedule_makes_no_sense_then_it_is_refused(wrong):
    with pytest.raises(ValueError, match="warm_up|schedule"):
        replace(SHORT, **({"warm_up": 0} | wrong))
