"""The report and the site as a reader sees them: in headless Chromium, on a desktop and on a phone.

What needs Chromium is skipped where there is none; `python -m tools.site.look` looks at a whole run's site.
"""

import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from test_run_report import run  # noqa: F401  (a fixture)

from helpers.metrics.classification import rates_at
from helpers.run import paths
from helpers.run.steps import notebook_names
from tools.site.__main__ import PAGES, build_site
from tools.site.look import CHROMIUM, dead_links, look_at, open_tab

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install chromium, or name it in CHROMIUM")


def scores(n: int = 80) -> pd.DataFrame:
    random, labels = np.random.default_rng(1), ["CNV", "DME", "DRUSEN", "NORMAL"]
    frame = pd.DataFrame({"label": random.choice(labels, n), "patient_id": random.integers(0, 30, n)})
    frame = frame.assign(split=np.where(np.arange(n) % 2, "test", "validation"), selection="validation")
    chances = random.dirichlet(np.ones(4), n) + 0.6 * (frame["label"].to_numpy()[:, None] == np.array(labels))
    return frame.join(pd.DataFrame(chances / 1.6, columns=[f"p_{label}" for label in labels]))


@pytest.fixture(scope="module")
def site(run, tmp_path_factory):  # noqa: F811
    """The site of a run of two notebooks; the output of one holds a table that is wider than a phone."""
    for picture in run.figures.glob("*/one.png"):
        Image.new("L", (900, 600)).save(picture, dpi=(200, 200))
        Image.new("L", (900, 600)).save(picture.with_suffix(".pdf"))
    for path in (run.experiments / "multiclass/scores.parquet", run.notebook("02_multiclass_roc")):
        path.parent.mkdir(parents=True)
    scores().to_parquet(run.experiments / "multiclass/scores.parquet")
    html = pd.DataFrame([range(40)] * 2).to_html()
    wide = nbformat.v4.new_output("display_data", {"text/html": html}, metadata={"made": "one.png"})
    cell = nbformat.v4.new_code_cell('study.figure("one", figure)', outputs=[wide])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), run.notebook("02_multiclass_roc"))
    return build_site(run, tmp_path_factory.mktemp("made")).parent


def test_every_link_of_the_report_and_the_site_leads_somewhere(run, site):  # noqa: F811
    pages = [*site.rglob("*.html"), run.report]
    assert "notebooks/02_multiclass_roc.html#one.png" in (site / "report.html").read_text(encoding="utf-8")
    assert {page.name for page in pages} >= {*PAGES, "02_multiclass_roc.html"}
    assert {page.name: dead for page in pages if (dead := dead_links(page))} == {}


def test_what_machines_read_names_files_that_are_there(site):
    files = [item["file"] for item in yaml.safe_load((site / "codecheck.yml").read_text())["manifest"]]
    graph = {item["@id"]: item for item in json.loads((site / "ro-crate-metadata.json").read_text())["@graph"]}
    assert files == [f"figures/{name}/one.pdf" for name in ("02_multiclass_roc", "07_pneumonia")]
    assert {*files, "report.html"} <= graph.keys()
    assert len(graph["./"]["citation"]) == 4 and all((site / name["@id"]).is_file() for name in graph["./"]["hasPart"])


@needs_chromium
def test_pages_fit_a_phone_and_a_desktop_without_an_error_and_thresholds_agree_with_python(site, tmp_path):
    test = scores().query("split == 'test'")
    truth, score = test["label"].isin(["CNV", "DME"]), (test["p_CNV"] + test["p_DME"]).round(7)
    with open_tab(tmp_path) as tab:
        wrong = {page.name: found for page in site.rglob("*.html") if (found := look_at(page, tab))}
        assert wrong == {}
        tab.open(site / "threshold.html", 1280)
        for threshold in (0.0, 0.2, 0.5, 0.7, 0.999):
            found = tab.ask(
                f"ratesAt(JSON.parse(document.getElementById('scores').textContent)[0].samples[1], {threshold})"
            )
            for name, rate in rates_at(truth, score, threshold, test["patient_id"]).items():
                if name in found:
                    ours = [found[name][end] for end in ("value", "low", "high")]
                    assert ours == pytest.approx([rate.value, rate.low, rate.high], abs=1e-6), (name, threshold)


def test_the_readme_lists_every_notebook():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(notebooks/\1\.ipynb\)", text, re.MULTILINE)
    assert listed == notebook_names()
