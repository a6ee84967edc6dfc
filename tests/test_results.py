"""What real images gave stands in the README as the committed files say, and no image of a patient comes in with it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.plots.curves import confusion_matrices
from helpers.plots.style import shows_pixels
from helpers.run import paths
from helpers.run.profile import ProfileError, Run
from helpers.run.provenance import write_json
from tools import results


def test_the_readme_shows_what_the_committed_files_say():
    text = results.README.read_text(encoding="utf-8")
    assert results.with_block(text) == text, "make results"
    table = [line for line in text.splitlines() if line.startswith("| ") and "](notebooks/" in line]
    assert len(table) >= 12 and all((paths.ROOT / line.split("](")[1].split(")")[0]).is_file() for line in table)
    for word in ("Not reproduced", "Inconclusive", "Reproduced"):
        assert text.count(f"- **{word}**, by the numbers alone") == 1
    assert pd.read_csv(results.REAL / "audit.csv", index_col=0).equals(results.audit_outcomes()), "make results"
    with pytest.raises(ProfileError, match="markers"):
        results.with_block("no markers")


def test_everything_committed_is_listed_and_names_its_subset():
    allowed = results.listed()["without_images"]
    for path in results.REAL.glob("[0-9]*/*"):
        assert path.stem in allowed[path.parent.name] and path.suffix in (".csv", ".png")
        assert path.suffix == ".png" or pd.read_csv(path)["subset"].str.contains("commit").all()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on real images: of three listed figures one holds pixels and one is of older code; a table names images."""
    for name in ("RUNS", "FIGURES"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    run, profile = Run("mine"), {"backbone": "MobileNetV2", "image_size": 224}
    facts = {"source": "kermany_oct", "train images": 5, "test images": 2, "patients": 4}
    figures = [{"name": "figure_4a", "pixels": False}, {"name": "figure_4b", "pixels": True}, {"name": "figure_5"}]
    tables = [{"name": name, "compared": "exactly"} for name in ("metrics", "confusion", "unlisted")]
    record = {"figures": figures, "tables": tables, "claims": [], "obtained": {}, "profile": profile, "commit": "abc"}
    folder = run.figures / "02_multiclass_roc"
    folder.mkdir(parents=True)
    for figure in figures:
        Image.new("L", (300, 200), 255).save(folder / f"{figure['name']}.png")
    pd.DataFrame({"value": [0.5]}).to_csv(folder / "metrics.csv", index=False)
    pd.DataFrame({"image_id": ["a"], "value": [1]}).to_csv(folder / "confusion.csv", index=False)
    write_json(run.record("02_multiclass_roc"), record | {"notebook": "02_multiclass_roc", "facts": facts})
    drawn = {"notebook": "03_binary_roc", "facts": facts | {"source": "phantom_oct"}}
    write_json(run.record("03_binary_roc"), record | drawn)
    return run


def test_no_image_and_no_row_of_an_image_comes_in(run, tmp_path):
    left_out = "\n".join(results.bring_run(run, tmp_path / "real"))
    brought = {path.relative_to(tmp_path / "real").as_posix() for path in (tmp_path / "real").rglob("*.*")}
    assert brought == {"claims.csv", "02_multiclass_roc/figure_4a.png", "02_multiclass_roc/metrics.csv"}
    for words in (
        "figure_4b: it holds pixels",
        "figure_5: not in",
        "name images",
        "unlisted: not in",
        "03_binary_roc: phan",
    ):
        assert words in left_out
    subset = pd.read_csv(tmp_path / "real/02_multiclass_roc/metrics.csv")["subset"][0]
    assert subset == "kermany_oct: 5 train, 2 test images of 4 patients; MobileNetV2 at 224 px; commit abc"
    with Image.open(tmp_path / "real/02_multiclass_roc/figure_4a.png") as made:
        assert made.height > 200  # the subset stands below
    with pytest.raises(ProfileError, match="no finished notebook"):
        results.bring_run(Run("none"), tmp_path / "real")
    with pytest.raises(ProfileError, match="RUN=real-run"):
        Run("real")


def test_a_figure_with_pixels_is_known_and_a_confusion_matrix_is_none():
    figure, axes = plt.subplots(1, 2)
    assert not shows_pixels(figure)
    axes[1].pcolormesh(np.zeros((64, 64)))
    assert shows_pixels(figure)
    axes[1].clear()
    axes[0].imshow(np.zeros((8, 8)))
    assert shows_pixels(figure)
    assert not shows_pixels(confusion_matrices({"": pd.DataFrame(np.eye(4, dtype=int), list("abcd"), list("abcd"))}))
    plt.close("all")
