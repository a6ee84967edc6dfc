"""One self-contained HTML page from what a run has left: claims, figures and tables, coverage, and what ran."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.run.cache import notebook_key
from helpers.run.claims import GROUPS, compare, coverage, load_published, margins, stated
from helpers.run.profile import Run, failed_steps
from helpers.run.provenance import read_json, write_atomically
from helpers.run.steps import left_out, needed, notebook_names, notebook_reads, studies

VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not comparable", "not run")
SHOWN_ROWS = 60  # of a table; the CSV has all
OPEN_ROWS = 25  # a longer table is folded
PIXELS_PER_INCH = 130  # of a figure: what is 7 pt in print can be read
STATUS = {"made": "made", "not made": "not in this run", "no notebook": "left out"}


def build_report(run: Run) -> Path:
    """Write `run`'s report from the records its notebooks left; a notebook without one is listed as failed or not run.

    Returns the page's path. Pictures are embedded, so that the file can be sent to somebody.
    """
    import jinja2

    records, papers = records_of(run), paper_titles()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": _words, "picture": _picture, "rows": _rows}
    claims = claims_table(records)
    page = environment.get_template("report_template.html").render(
        run=run,
        profile=read_json(run.profile_file) if run.profile_file.is_file() else {},
        headlines=_headlines(records),
        tallies=tally_claims(claims),
        alone=Counter(claims.loc[(claims["group"] == "results") & (claims["alone"] != ""), "alone"]),
        margins=margins(),
        stated=stated(load_published()).to_dict("records"),
        verdicts=VERDICTS,
        papers=papers,
        short={paper: f"{paper[:-4].title()} {paper[-4:]}" for paper in papers},
        claims={paper: claims[claims["paper"] == paper].to_dict("records") for paper in papers},
        failures=_failures(run, records),
        sections={name: (_papers_of(record), record) for name, record in records.items()},
        coverage=coverage_of(run, records, papers),
        warnings=_warnings(run, records),
        excluded={str(row): row for record in records.values() for row in record["excluded"]}.values(),
        machine=next(iter(records.values()), {}),
        seconds=_left(run, "timings"),
        steps=_left(run, "stages"),
    )
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


def summary(run: Run) -> str:
    """The claims in a few lines, for the terminal."""
    records = records_of(run)
    table = claims_table(records)
    shown = table[~table["verdict"].isin(["not run"]) & (table["obtained"] != "")]
    tallies = tally_claims(table).items()
    lines = [f"{group:15}  {', '.join(f'{n} {word}' for word, n in found.items())}" for group, found in tallies]
    lines += [f"                 {line}" for line in _headlines(records)]
    for row in shown[shown["measure"].isin(["proportion", "auroc"])].to_dict("records") if len(shown) else []:
        lines.append(f"  {row['quantity'][:58]:58}  {row['published']:>22}  {row['obtained']:>28}  {row['verdict']}")
    return "\n".join(lines)


def _headlines(records: dict[str, dict]) -> list[str]:
    """On which images the results rest: one sentence per data set, with the notebooks it holds for."""
    notebooks: dict[str, list[str]] = {}
    for name, record in records.items():
        notebooks.setdefault(record["data"], []).append(name.split("_")[0])
    return [f"{', '.join(names)}: {data}" for data, names in notebooks.items()] or [
        "No notebook of this run has finished."
    ]


def _failures(run: Run, records: dict[str, dict]) -> list[dict[str, str]]:
    """Failed steps with their notebooks, failed notebooks, and those whose results are of another code or data."""
    found = []
    for step, error in failed_steps(run).items():
        waiting = [name for name in notebook_names() if step in needed(notebook_reads(name).steps)]
        what = f"The step {step} failed, which {', '.join(waiting)} rests on."
        found.append({"what": what, "file": f"logs/{step}.stderr.log", "error": error})
    for name in notebook_names():
        if run.failed(name).is_file():
            error = read_json(run.timing(name))["error"] if run.timing(name).is_file() else ""
            found.append({"what": f"{name} failed.", "file": f"failed/{name}.ipynb", "error": error or "stopped"})
        elif run.record(name).is_file() and name not in records:
            what = f"{name} is not shown: it was run from other code, data or settings. Run it again."
            found.append({"what": what, "file": "", "error": ""})
    return found


def _papers_of(record: dict[str, Any]) -> str:
    """The papers whose claims, figures or tables the notebook holds."""
    ids = [claim["id"] for claim in record["claims"]]
    ids += [name for item in record["figures"] + record["tables"] for name in item["published"]]
    papers = {name.split(".")[0] for name in ids}
    return (
        paper_titles()[papers.pop()] if len(papers) == 1 else f"{len(papers)} papers" if papers else "beyond the papers"
    )


def _picture(png: Path) -> dict[str, Any]:
    """The file as text for an HTML page, and its width there in pixels."""
    from PIL import Image

    with Image.open(png) as image:
        inches = image.width / image.info.get("dpi", (PIXELS_PER_INCH,))[0]
    return {"data": base64.b64encode(png.read_bytes()).decode(), "width": round(inches * PIXELS_PER_INCH)}


def _rows(csv: Path) -> dict[str, Any]:
    """A CSV as an HTML table, whose cells pandas escapes; `folded` says what stands there instead of a long one."""
    frame = pd.read_csv(csv)
    frame.columns = [str(name).replace("_", " ") for name in frame.columns]  # a heading can then wrap
    count = f"{len(frame):,} rows"
    if len(frame) > SHOWN_ROWS:
        count += f", the first and last {SHOWN_ROWS // 2} of which are here"
    with pd.option_context("display.max_colwidth", None):  # pandas would cut sentences at 50 letters
        html = frame.to_html(index=False, border=0, na_rep="", max_rows=SHOWN_ROWS, float_format="{:.4g}".format)
    return {"html": html, "folded": count if len(frame) > OPEN_ROWS else ""}


def _warnings(run: Run, records: dict[str, dict]) -> list[tuple[str, str]]:
    """Each warning once, with the step or notebook that gave it first."""
    made = _left(run, "stages") | records
    return list({text: (name, text) for name in reversed(made) for text in made[name]["warnings"]}.values())[::-1]


def _left(run: Run, folder: str) -> dict[str, dict]:
    """What the steps and notebooks left in a folder of the run, the notebooks last."""
    found = {path.stem: read_json(path) for path in (run.folder / folder).glob("*.json")}
    return dict(sorted(found.items(), key=lambda item: (item[0] in notebook_names(), item[0])))


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# --- coverage: every figure and table of the texts, with the file that shows it or why none does ---


def coverage_of(run: Run, records: dict[str, dict], papers: Iterable[str]) -> list[dict[str, Any]]:
    """One entry per paper: its key, a tally in words, and a row for each figure and table.

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
            row["ran"] = row["notebook"] in records
            if row["status"] == "not made":
                row["reason"] = _why_not_made(run, row["notebook"], records) or row["reason"]
            row["status"] = STATUS[row["status"]]
        found.append({"paper": paper, "tally": _tally(rows), "rows": rows})
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


def _tally(rows: list[dict]) -> str:
    """'35 figures and tables: 31 made, 4 left out'."""
    counts = Counter(row["status"] for row in rows)
    parts = [f"{counts[word]} {word}" for word in STATUS.values() if counts[word]]
    return f"{len(rows)} figures and tables: {', '.join(parts)}"
