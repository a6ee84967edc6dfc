"""One self-contained HTML page from what a run has left: findings, figures, claims, coverage, and what ran."""

from __future__ import annotations

import base64
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import mistune
import nbformat
import pandas as pd
from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from helpers.run.cache import notebook_key
from helpers.run.claims import GROUPS, compare, coverage, load_published, margins, stated
from helpers.run.paths import LABELS
from helpers.run.profile import Run, failed_steps
from helpers.run.provenance import read_json, write_atomically
from helpers.run.steps import left_out, needed, notebook_names, notebook_reads, studies

VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not comparable", "not run")
SHOWN_ROWS = 60  # of a table; the CSV has all
PIXELS_PER_INCH = 110  # of a figure on the page
COLOURS = 64  # of a drawn figure: its lines, letters and their soft edges
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
CODE = HtmlFormatter(nowrap=True)
NAMES = tomllib.loads(LABELS.read_text(encoding="utf-8"))
TOLD = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))  # of headlines and of warnings
STATUS = {"made": "made", "not made": "not in this run", "no notebook": "left out"}


def build_report(run: Run) -> Path:
    """Write `run`'s report from the records its notebooks left; a notebook without one is listed as failed or not run.

    Returns the page's path. Pictures are embedded, so that the file can be sent to somebody. The executed notebooks
    become HTML pages beside them.
    """
    records, papers = records_of(run), paper_titles()
    pages = [write_notebook(path) for path in run.folder.glob("*/[!.]*.ipynb")]
    claims = claims_table(records)
    page = TEMPLATES.get_template("report_template.html").render(
        run=run,
        profile=read_json(run.profile_file) if run.profile_file.is_file() else {},
        without=[name for name in notebook_names() if name not in records],
        grounds=_grounds(records),
        headlines=_headlines(records),
        tallies=tally_claims(claims),
        alone=Counter(claims.loc[(claims["group"] == "results") & (claims["alone"] != ""), "alone"]),
        margins=margins(),
        stated=stated(load_published()).to_dict("records"),
        verdicts=VERDICTS,
        papers=papers,
        claims={paper: claims[claims["paper"] == paper].to_dict("records") for paper in papers},
        failures=_failures(run, records),
        records=records,
        pages={page.stem: page.read_text(encoding="utf-8") for page in pages if page.parent.name == "notebooks"},
        parts=_by_paper(records),
        coverage=coverage_of(run, records, papers),
        warnings=_warnings(run, records),
        excluded={str(row): row for record in records.values() for row in record["excluded"]}.values(),
        machine=next(iter(records.values()), {}),
        seconds=_left(run, "timings"),
        steps=_left(run, "stages"),
        pieces=sorted(path.name for path in (run.folder / "logs").glob("*.*of*.stderr.log")),
    )
    lines = _summary(records, claims)
    write_atomically(run.report.with_suffix(".txt"), lambda file: file.write_text(lines, encoding="utf-8"))
    write_atomically(run.report, lambda file: file.write_text(page, encoding="utf-8"))
    return run.report


def paper_titles() -> dict[str, str]:
    """The papers by the name of their file in data/published/, in the order of the report."""
    return {study.paper: study.title for study in studies().values() if study.paper}


def records_of(run: Run) -> dict[str, dict]:
    """What the notebooks of this run left, as far as it was made from the code, data and settings of now."""
    names = [name for name in notebook_names() if run.record(name).is_file()]
    records = {name: read_json(run.record(name)) for name in names}
    return {name: record for name, record in records.items() if record["key"] == notebook_key(name, run.load_profile())}


def claims_table(records: dict[str, dict]) -> pd.DataFrame:
    """Every published number: with what a notebook obtained where one ran, else 'not run'."""
    waiting = compare(load_published(), {})
    done = [pd.DataFrame(record["claims"]) for record in records.values() if record["claims"]]
    order = {claim: place for place, claim in enumerate(waiting["id"])}
    table = pd.concat([*done, waiting]).drop_duplicates("id").sort_values("id", key=lambda ids: ids.map(order))
    return table.assign(paper=table["id"].str.split(".").str[0])


def tally_claims(claims: pd.DataFrame) -> dict[str, Counter]:
    """How often each verdict was given, by what is counted apart: results, counts of data, settings, arithmetic."""
    return {group: Counter(claims.loc[claims["group"] == group, "verdict"]) for group in GROUPS}


def _summary(records: dict[str, dict], claims: pd.DataFrame) -> str:
    """Verdicts and findings in a few lines, for the terminal."""
    tallies = tally_claims(claims).items()
    lines = [f"{group:15}  {', '.join(f'{n} {word}' for word, n in found.items())}" for group, found in tallies]
    lines += [f"                 {', '.join(names)}: {data}" for data, names in _grounds(records).items()]
    lines += [f"  {row['topic']}: {row['sentence']}" for row in _headlines(records)[:5]]
    return "\n".join(lines)


# --- the first screen ---


def _grounds(records: dict[str, dict]) -> dict[str, list[str]]:
    """On which images the results rest: a sentence per data set, with the numbers of the notebooks it holds for."""
    notebooks: dict[str, list[str]] = {}
    for name, record in records.items():
        notebooks.setdefault(record["data"], []).append(name.split("_")[0])
    return notebooks


def _headlines(records: dict[str, dict]) -> list[dict[str, Any]]:
    """The run's first findings: topic, notebook, a sentence of what it found, and a figure."""
    found = []
    for row in TOLD["headlines"]:
        record = records.get(row["notebook"], {"figures": []})
        told = record.get("found", ()) if record["figures"] else ()
        sentence = next(iter([*told[row.get("finding", 1) - 1 :], *told]), "")
        named = [item for item in record["figures"] if item["name"] == row["figure"]]
        if sentence:
            found.append(
                row | {"sentence": sentence[:1].upper() + sentence[1:], "item": (named or record["figures"])[0]}
            )
    return found


def _failures(run: Run, records: dict[str, dict]) -> list[dict[str, str]]:
    """Failed steps with their notebooks, failed notebooks, and those whose results are of another code or data."""
    found = []
    for step, error in failed_steps(run).items():
        waiting = [name for name in notebook_names() if step in needed(notebook_reads(name).steps)]
        ended = "has not ended" if error.startswith("it was started") else "failed"
        what = f"The step {step}, which {', '.join(waiting)} rests on, {ended}."
        found.append({"what": what, "file": f"logs/{step}.stderr.log", "error": error})
    for name in notebook_names():
        if run.failed(name).is_file():
            error = read_json(run.timing(name))["error"] if run.timing(name).is_file() else ""
            found.append({"what": f"{name} failed.", "file": f"failed/{name}.html", "error": error or "stopped"})
        elif run.record(name).is_file() and name not in records:
            what = f"{name} is not shown: it was run from other code, data or settings. Run it again."
            found.append({"what": what, "file": "", "error": ""})
    return [row | {"file": row["file"] if (run.folder / row["file"]).is_file() else ""} for row in found]


def _warnings(run: Run, records: dict[str, dict]) -> list[dict[str, str]]:
    """Each warning once, with the step or notebook that gave it first and why it is serious; serious ones first."""
    made, rules = _left(run, "stages") | records, TOLD["serious"]
    first = {text: name for name in reversed(made) for text in made[name]["warnings"]}
    found = []
    for text, name in reversed(first.items()):
        why = next((rule["why"] for rule in rules if re.search(rule["pattern"], text)), "")
        found.append({"where": name, "text": text, "why": why})
    return sorted(found, key=lambda warning: not warning["why"])


# --- figures, tables and notebooks ---


def _by_paper(records: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """The records by the paper whose STUDY has their notebook; 'audit' of all papers, 'own' of none."""
    owner = {name: study.paper or "audit" for study in studies().values() for name in study.notebooks}
    found: dict[str, dict[str, dict]] = {name: {} for name in (*paper_titles(), "own", "audit")}
    for name, record in records.items():
        found[owner.get(name, "own")][name] = record
    return found


def _tables_of(record: dict[str, Any], figure: dict[str, Any]) -> list[str]:
    """The names of the tables that hold a figure's numbers: those of its name or its place in the paper."""
    ids = set(figure["published"])
    return [item["name"] for item in record["tables"] if item["name"] == figure["name"] or ids & set(item["published"])]


def _picture(item: dict[str, Any], run: Run, notebook: str) -> dict[str, Any]:
    """A figure as WebP, kept beside the report until it changes: its text for an HTML page, width and height there."""
    source = run.figures / notebook / f"{item['name']}.png"
    kept = run.folder / "pictures" / notebook / f"{item['name']}.webp"
    with Image.open(source) as image:
        scale = PIXELS_PER_INCH / image.info.get("dpi", (PIXELS_PER_INCH,))[0]
        size = {"width": round(image.width * scale), "height": round(image.height * scale)}
        if not kept.is_file() or kept.stat().st_mtime < source.stat().st_mtime:
            how = {"quality": 75, "method": 2} if item.get("pixels", True) else {"lossless": True, "quality": 40}
            small = image.convert("RGB") if item.get("pixels", True) else image.convert("RGB").quantize(COLOURS)
            write_atomically(kept, lambda file: small.convert("RGB").save(file, "WEBP", **how))
    return {"data": base64.b64encode(kept.read_bytes()).decode(), **size}


def _rows(csv: Path) -> dict[str, Any]:
    """A CSV's heading and rows as text; `left` rows in the middle of a long one are not shown."""
    frame = pd.read_csv(csv).rename(columns=NAMES).map(lambda value: NAMES.get(value, value))
    half = SHOWN_ROWS // 2
    shown = pd.concat([frame.head(half), frame.tail(half)]) if len(frame) > SHOWN_ROWS else frame
    heading = [str(name).replace("_", " ") for name in frame.columns]  # it can then wrap
    return {"heading": heading, "rows": shown.to_numpy(object).tolist(), "of": len(frame)}


def write_notebook(path: Path, target: Path | None = None, **links: str) -> Path:
    """An executed notebook as an HTML page beside it, or as `target`, unless that is newer; it needs no network."""
    page = target or path.with_suffix(".html")
    if not page.is_file() or page.stat().st_mtime < path.stat().st_mtime:
        given = {"cells": nbformat.read(path, as_version=4).cells, "style": CODE.get_style_defs(".code")}
        text = TEMPLATES.get_template("notebook_template.html").render(name=path.stem, links=links, **given)
        write_atomically(page, lambda file: file.write_text(text, encoding="utf-8"))
    return page


def _left(run: Run, folder: str) -> dict[str, dict]:
    """What the steps and notebooks left in a folder of the run, the notebooks last."""
    found = {path.stem: read_json(path) for path in (run.folder / folder).glob("*.json")}
    return dict(sorted(found.items(), key=lambda item: (item[0] in notebook_names(), item[0])))


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return ("" if value != value else f"{value:.4g}") if isinstance(value, float) else str(value)


# --- coverage: every figure and table of the texts, with the file that shows it or why none does ---


def coverage_of(run: Run, records: dict[str, dict], papers: Iterable[str]) -> list[dict[str, Any]]:
    """One entry per paper: its key, and a row for each figure and table.

    A row holds what `coverage` of `helpers.run.claims` gives, `status` in words, `files` (what shows it, see
    `files_made`) and `reason`: why none can make it, what ours cannot show, or why this run has not made it. Raises
    `ClaimError` for a published id that data/published/ does not have.
    """
    files = files_made(run, records)
    table = coverage(load_published(), files)
    found = []
    for paper in papers:
        rows = table[table["paper"] == paper].to_dict("records")
        for row in rows:
            row["files"] = files.get(row["id"], [])
            if row["status"] == "not made":
                row["reason"] = _why_not_made(run, row["notebook"], records) or row["reason"]
            row["status"] = STATUS[row["status"]]
        found.append({"paper": paper, "rows": rows})
    return found


def files_made(run: Run, records: dict[str, dict]) -> dict[str, list[dict[str, str]]]:
    """For every published id that a notebook of this run made: the files, in the notebooks' order.

    Each has `file`, its place in the repository; `href`, its address from the report; and `anchor`, where the report
    shows it.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for notebook, record in records.items():
        for suffix, items in ((".png", record["figures"]), (".csv", record["tables"])):
            for item in items:
                file = f"figures/{run.name}/{notebook}/{item['name']}{suffix}"
                shown = {"file": file, "href": f"../../{file}", "anchor": f"{notebook}-{item['name']}"}
                for published in item["published"]:
                    found.setdefault(published, []).append(shown)
    return found


def _why_not_made(run: Run, notebook: str, records: dict[str, dict]) -> str:
    if notebook in records:
        return "the notebook ran and did not make it"
    if run.profile_file.is_file() and (setting := left_out(run.load_profile()).get(notebook)):
        return f"not part of this profile: {setting}"
    return "the notebook failed" if run.failed(notebook).is_file() else ""


TEMPLATES.filters |= {"words": _words, "rows": _rows, "tables": _tables_of, "picture": _picture}
TEMPLATES.filters["markdown"] = mistune.create_markdown(escape=False, plugins=["table"])
TEMPLATES.filters["code"] = lambda source: highlight(source, PythonLexer(), CODE)
