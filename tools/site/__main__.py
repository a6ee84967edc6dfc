"""Fill build/site/ from a finished run: `make site`, or `python -m tools.site RUN [FOLDER]`."""

from __future__ import annotations

import os
import re
import shutil
import sys
from datetime import date
from functools import partial
from pathlib import Path

import jinja2
import mistune

from helpers.run import paths, report
from helpers.run.profile import ProfileError, Run
from tools.results import BEGIN, END, REAL
from tools.site import provenance
from tools.site.thresholds import questions_of

HERE, TARGET = Path(__file__).parent, paths.ROOT / "build" / "site"
PAGES = {
    "index.html": "Start",
    "report.html": "Report",
    "figures.html": "Figures",
    "real.html": "Real images",
    "threshold.html": "Thresholds",
    "coverage.html": "Coverage",
    "own-data.html": "Your own data",
}
HOLDS = """
- [The report](report.html) of one run: what was found, what failed, every figure, table and claim; the
  [figures](figures.html) by themselves, each with its notebook, table and commit.
- [Results on real images](real.html), as tables and figures that show no image.
- [Thresholds](threshold.html): choose one on validation patients, and carry it to another hospital.
- [Coverage](coverage.html): each figure and table of the papers, or the reason why there is none.
- [Your own data](own-data.html): how to run the notebooks on it.
"""
TEMPLATES = report.TEMPLATES.overlay(
    loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(HERE), report.TEMPLATES.loader])
)


def build_site(run: Run, target: Path = TARGET) -> Path:
    """Write the site of `run` into `target`, which is emptied first, and return its first page."""
    records = report.records_of(run)
    if not records:
        raise ProfileError(f"run {run.name} has no finished notebook: make reproduce RUN={run.name}")
    report.build_report(run)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    copy_files(run, records, target)
    commit = commit_link(next(iter(records.values()))["commit"])
    write = partial(write_page, target, run.name, commit)
    TEMPLATES.filters["commit"] = commit_link
    executed = {page.stem for page in (target / "notebooks").glob("*.html")}  # not what JupyterLab ran
    write("index.html", markdown(introduction(), target))
    write("figures.html", TEMPLATES.get_template("gallery.html").render(records=records, executed=executed))
    write("real.html", TEMPLATES.get_template("real.html").render(folders=real_results(target)))
    titles = report.paper_titles()
    parts = report.coverage_of(run, records, titles)
    write("coverage.html", TEMPLATES.get_template("coverage.html").render(parts=parts, titles=titles))
    write("own-data.html", markdown((paths.ROOT / "docs/own-data.md").read_text(encoding="utf-8"), target))
    questions = [one | {"page": one["notebook"] in executed} for one in questions_of(run, records)]
    script = f"<script>\n{(HERE / 'thresholds.js').read_text(encoding='utf-8')}</script>"
    write("threshold.html", TEMPLATES.get_template("threshold.html").render(questions=questions), script)
    (target / "codecheck.yml").write_text(provenance.codecheck(records), encoding="utf-8")
    crate = provenance.crate(records, executed, run.name, date.today().isoformat())
    (target / "ro-crate-metadata.json").write_text(crate, encoding="utf-8")
    return target / "index.html"


def copy_files(run: Run, records: dict[str, dict], target: Path) -> None:
    """The report, executed notebooks, figures and tables, and what real images gave, with addresses of the site."""
    for name, record in records.items():
        for item in [*record["figures"], *record["tables"]]:
            for suffix in (".png", ".pdf") if item in record["figures"] else (".csv",):
                place = target / "figures" / name / f"{item['name']}{suffix}"
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.figures / name / place.name, place)
        for picture in (run.folder / "pictures" / name).glob("*.webp"):
            shutil.copyfile(picture, target / "figures" / name / picture.name)
        if run.notebook(name).is_file():
            page = target / "notebooks" / f"{name}.html"
            page.parent.mkdir(exist_ok=True)
            links = {"site": "../index.html", "in_the_report": f"../report.html#{name}"}
            report.write_notebook(run.notebook(name), page, **links)
            shutil.copyfile(run.notebook(name), page.with_suffix(".ipynb"))
    for folder in ("failed", "logs"):
        if (run.folder / folder).is_dir():
            shutil.copytree(run.folder / folder, target / folder)
    shutil.copytree(REAL, target / "real")
    text = run.report.read_text(encoding="utf-8").replace(f"../../figures/{run.name}/", "figures/")
    text = text.replace('<main id="top">', '<main id="top">\n<p class="soft"><a href="index.html">The site</a></p>')
    (target / "report.html").write_text(text, encoding="utf-8")


def write_page(target: Path, run: str, commit: str, name: str, body: str, script: str = "") -> None:
    """One page of the site in its frame; a link to what this run has not made becomes plain text."""
    given = {"pages": PAGES, "here": name, "title": PAGES[name], "script": script}
    text = TEMPLATES.get_template("layout.html").render(body=body, run=run, commit=commit, **given)
    (target / name).write_text(text, encoding="utf-8")


def commit_link(commit: str) -> str:
    """A commit, as a link where GitHub's workflow says which repository this is."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository or not re.fullmatch(r"[0-9a-f]+\+?", commit):
        return commit
    address = f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/commit/{commit.rstrip('+')}"
    return f'<a href="{address}">{commit}</a>'


def introduction() -> str:
    """The README's title, first paragraph and results, with what the site holds."""
    text = paths.ROOT.joinpath("README.md").read_text(encoding="utf-8")
    top, heading, _ = text[: text.index(BEGIN)].rpartition("## ")
    results = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    return f"{top}{HOLDS}\n{heading}Results on real images\n{results}"


def markdown(text: str, target: Path) -> str:
    """A document of the repository as HTML, its links as far as they lead to something on the site."""
    html = mistune.create_markdown(escape=False, plugins=["table"])(text)
    html = re.sub(r'<a href="([^"]*)">(.*?)</a>', lambda found: _link(found[1], found[2], target), html, flags=re.S)
    html = html.replace('src="figures/real/', 'src="real/').replace('src="../figures/real/', 'src="real/')
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return html.replace("<th>", '<th scope="col">')


def _link(address: str, words: str, target: Path) -> str:
    if address.startswith(("https://", "#")):
        return f'<a href="{address}">{words}</a>'
    place = re.sub(r"^(\.\./)*(docs/)?", "", address).replace("figures/real/", "real/")
    place = re.sub(r"\.(ipynb|md)$", ".html", place)
    there = place in PAGES or (target / place).is_file()
    return f'<a href="{place}">{words}</a>' if there else words


def real_results(target: Path) -> dict[str, dict]:
    """The pictures and tables of figures/real/ by their folder, as they lie in the site."""
    found: dict[str, dict] = {}
    for path in sorted((target / "real").rglob("*")):
        folder = path.parent.name if path.parent.name != "real" else "all"
        held = found.setdefault(folder, {"pictures": [], "tables": []}) if path.suffix in (".png", ".csv") else {}
        name = path.relative_to(target / "real").as_posix()
        if path.suffix == ".png":
            held["pictures"].append(name)
        elif path.suffix == ".csv":
            held["tables"].append(report._rows(path) | {"name": name})
    return found


def main(words: list[str]) -> int:
    try:
        page = build_site(Run(words[0] if words else "phantom"), *map(Path, words[1:2]))
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the site is in {page.parent}; {page.name} is its first page", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
