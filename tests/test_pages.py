"""The report and the site as a reader sees them: in headless Chromium, on a desktop and on a phone.

Skipped where no Chromium is installed (Debian's package `chromium`, or the path in the variable CHROMIUM).
"""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import websocket
import yaml
from bs4 import BeautifulSoup
from PIL import Image
from test_run_report import record

from helpers.metrics.classification import rates_at
from helpers.run import paths
from helpers.run.profile import Run
from helpers.run.steps import notebook_names
from tools.site.__main__ import PAGES, build_site

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: install chromium, or name it in CHROMIUM")
# What is wider than the window though nothing around it scrolls.
WIDER = """[...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest(".scroll, summary.line, pre")).map(one => one.outerHTML.slice(0, 120)).slice(0, 5)"""
UNSTUCK = """[...document.querySelectorAll(".scroll tr > :first-child")]
  .filter(one => getComputedStyle(one).position !== "sticky").length"""


class Tab:
    """One page of a browser, driven over its debugging socket; keeps what the page's console calls an error."""

    def __init__(self, address: str) -> None:
        self._socket, self.errors = websocket.create_connection(address, timeout=60, suppress_origin=True), []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, until: str = "", **given):
        """The browser's answer, once it and an event of the name `until` have come."""
        self._socket.send(json.dumps({"id": 1, "method": method, "params": given}))
        answer, came = None, not until
        while answer is None or not came:
            message = json.loads(self._socket.recv())
            answer, came = message.get("result", answer), came or message.get("method") == until
            level = message.get("params", {}).get("entry", {}).get("level")
            if level == "error" or message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"])[:300])
        return answer

    def open(self, page: Path, width: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", until="Page.loadEventFired", url=page.resolve().as_uri())

    def ask(self, script: str):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")


@contextmanager
def chromium_tab(profile: Path):
    """A tab of a headless Chromium, which is ended afterwards."""
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    process = subprocess.Popen([CHROMIUM, *words, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
    try:
        waits = profile / "DevToolsActivePort"
        for _ in range(600):
            if waits.is_file() and waits.read_text().count("\n"):
                break
            time.sleep(0.1)
        request = f"http://127.0.0.1:{waits.read_text().splitlines()[0]}/json/new"
        with urllib.request.urlopen(urllib.request.Request(request, method="PUT")) as answer:
            tab = Tab(json.load(answer)["webSocketDebuggerUrl"])
        yield tab
    finally:
        process.terminate()
        process.wait(30)


def dead_links(page: Path) -> list[str]:
    """The addresses on a page that lead to no file, or to no place in it; those of the web must be https."""
    found = []
    for tag in BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select("[href], [src]"):
        address = tag.get("href") or tag.get("src")
        file, _, place = address.partition("#")
        target = (page.parent / file).resolve() if file else page.resolve()
        if not address.startswith(("https://", "data:")) and not target.is_file():
            found.append(address)
        elif place and not re.search(f'id="{re.escape(place)}"', target.read_text(encoding="utf-8")):
            found.append(address)
    return found


def look_at(page: Path, tab: Tab) -> list[str]:
    """What is wrong with a page at the widths of a phone and of a desktop, folded and unfolded, in words."""
    found = []
    for width in (390, 1280):
        tab.open(page, width)
        for how in ("false", "true"):
            tab.ask(f"for (const one of document.querySelectorAll('details')) one.open = {how}")
            if tab.ask("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{width}: wider than the window: {tab.ask(WIDER)}")
        found += [f"{width}: first cells scroll away"] if tab.ask(UNSTUCK) else []
    found, tab.errors = found + tab.errors, []
    return found


def scores(n: int = 80) -> pd.DataFrame:
    random, labels = np.random.default_rng(1), ["CNV", "DME", "DRUSEN", "NORMAL"]
    frame = pd.DataFrame(
        {"label": random.choice(labels, n), "patient_id": [f"p{k}" for k in random.integers(0, 30, n)]}
    )
    frame = frame.assign(split=np.where(np.arange(n) % 2, "test", "validation"), selection="validation")
    chances = random.dirichlet(np.ones(4), n) + 0.6 * (frame["label"].to_numpy()[:, None] == np.array(labels))
    return frame.join(pd.DataFrame(chances / 1.6, columns=[f"p_{label}" for label in labels]))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of a run with one notebook, whose output holds a table that is wider than a phone."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNS", "FIGURES"):
            patch.setattr(paths, name, folder / name.lower())
        run, name = Run("pages"), "02_multiclass_roc"
        run.save_profile("phantom", {})
        record(run, name, ["kermany2018.figure.4A"])
        for path in (run.figures / name / "one.png", run.experiments / "multiclass/scores.parquet", run.notebook(name)):
            path.parent.mkdir(parents=True)
        Image.new("L", (900, 600)).save(run.figures / name / "one.png", dpi=(200, 200))
        Image.new("L", (900, 600)).save(run.figures / name / "one.pdf")
        scores().to_parquet(run.experiments / "multiclass/scores.parquet")
        html = pd.DataFrame([range(40)] * 2).to_html()
        wide = nbformat.v4.new_output("display_data", {"text/html": html}, metadata={"made": "one.png"})
        cell = nbformat.v4.new_code_cell('study.figure("one", figure)', outputs=[wide])
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), run.notebook(name))
        yield build_site(run, folder / "made").parent


def test_every_link_of_the_report_and_the_site_leads_somewhere(site):
    pages = [*site.rglob("*.html"), site.parent / "runs/pages/report.html"]
    assert "notebooks/02_multiclass_roc.html#one.png" in (site / "report.html").read_text(encoding="utf-8")
    assert {page.name for page in pages} >= {*PAGES, "02_multiclass_roc.html"}
    assert {page.name: dead for page in pages if (dead := dead_links(page))} == {}


def test_what_machines_read_names_files_that_are_there(site):
    files = [item["file"] for item in yaml.safe_load((site / "codecheck.yml").read_text())["manifest"]]
    graph = {item["@id"]: item for item in json.loads((site / "ro-crate-metadata.json").read_text())["@graph"]}
    assert files == ["figures/02_multiclass_roc/one.pdf"] and {*files, "report.html"} <= graph.keys()
    assert len(graph["./"]["citation"]) == 4 and all((site / name["@id"]).is_file() for name in graph["./"]["hasPart"])


@needs_chromium
def test_pages_fit_a_phone_and_a_desktop_without_an_error_and_thresholds_agree_with_python(site, tmp_path):
    test = scores().query("split == 'test'")
    truth, score = test["label"].isin(["CNV", "DME"]), (test["p_CNV"] + test["p_DME"]).round(7)
    with chromium_tab(tmp_path) as tab:
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
