"""One self-contained HTML page from what a run has left: claims, figures and tables by paper, and what ran."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.provenance import read_json, write_atomically
from helpers.runs import Run, blocked_by, failed_steps, notebook_names

PAPERS = {
    "kermany2018": "Kermany 2018, Identifying medical diagnoses and treatable diseases by image-based deep learning",
    "rajkomar2017": "Rajkomar et al. 2017, High-throughput classification of radiographs using deep CNNs",
    "zech2018": "Zech 2018, CheXNet reproduced, and why it does not generalise",
    "carr2020": "Carr et al. 2020, A bridge to small data sets",
}
VERDICTS = ("reproduced", "not reproduced", "not comparable", "not run")


def build_report(run: Run) -> Path:
    """Write `run`'s report from the records its notebooks left; a notebook without one is listed as failed or not run.

    Returns the page's path. Pictures are embedded, so that the file can be sent to somebody.
    """
    import jinja2

    from helpers.claims import load_published, stated

    records = records_of(run)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    claims = claims_table(records)
    page = environment.get_template("report_template.html").render(
        run=run.name,
        profile=read_json(run.profile_file) if run.profile_file.is_file() else {},
        headlines=_headlines(records),
        tally=Counter(claims.loc[claims["measure"] != "setting", "verdict"]),
        stated=stated(load_published()).to_dict("records"),
        verdicts=VERDICTS,
        claims=[(PAPERS[paper], rows.to_dict("records")) for paper, rows in claims.groupby("paper", sort=False)],
        failures=_failures(run),
        sections=[_section(run, record) for record in records.values()],
        coverage=_coverage(records),
        warnings=_warnings(run, records),
        excluded=_excluded(records),
        facts=_facts(run, records),
        durations=_durations(run),
    )
    write_atomically(run.report, lambda file: file.write_text(page, encoding="utf-8"))
    return run.report


def records_of(run: Run) -> dict[str, dict]:
    """What the notebooks of this run left; not those of an earlier run that rest on a step which failed in this one."""
    names = [name for name in notebook_names() if run.record(name).is_file() and not blocked_by(run, name)]
    return {name: read_json(run.record(name)) for name in names}


def claims_table(records: dict[str, dict]) -> pd.DataFrame:
    """Every published number: with what a notebook obtained where one ran, else 'not run'."""
    from helpers.claims import compare, load_published

    waiting = compare(load_published(), {}, comparable=True)
    done = [pd.DataFrame(record["claims"]) for record in records.values() if record["claims"]]
    order = {claim: place for place, claim in enumerate(waiting["id"])}
    table = pd.concat([*done, waiting]).drop_duplicates("id").sort_values("id", key=lambda ids: ids.map(order))
    return table.assign(paper=table["id"].str.split(".").str[0])


def summary(run: Run) -> str:
    """The claims in a few lines, for the terminal."""
    records = records_of(run)
    table = claims_table(records)
    told = table[~table["verdict"].isin(["not run"]) & (table["obtained"] != "")]
    lines = [f"claims   {', '.join(f'{n} {word}' for word, n in Counter(table['verdict']).items())}"]
    lines += [f"         {line}" for line in _headlines(records)]
    for row in told[told["measure"].isin(["proportion", "auroc"])].to_dict("records") if len(told) else []:
        lines.append(f"  {row['quantity'][:58]:58}  {row['published']:>22}  {row['obtained']:>28}  {row['verdict']}")
    return "\n".join(lines)


def _headlines(records: dict[str, dict]) -> list[str]:
    """On which images the results rest: one sentence a data set, with the notebooks it holds for."""
    told: dict[str, list[str]] = {}
    for name, record in records.items():
        told.setdefault(record["data"], []).append(name.split("_")[0])
    return [f"{', '.join(names)}: {data}" for data, names in told.items()] or ["No notebook of this run has finished."]


def _failures(run: Run) -> list[dict[str, str]]:
    """Failed steps, with the notebooks that could not run for it, and failed notebooks."""
    found = []
    for step, error in failed_steps(run).items():
        waiting = [name for name in notebook_names() if step in blocked_by(run, name)]
        log = f"logs/{step}.stderr.log" if (run.folder / "logs" / f"{step}.stderr.log").is_file() else ""
        what = f"The step {step} failed, so there is nothing of {', '.join(waiting) or 'what follows it'}."
        found.append({"what": what, "file": log, "file_is": "its log", "error": error})
    for name in notebook_names():
        if run.failed(name).is_file():
            error = read_json(run.timing(name)).get("error", "") if run.timing(name).is_file() else ""
            file = {"file": f"failed/{name}.ipynb", "file_is": "the notebook with its error"}
            found.append({"what": f"{name} failed.", **file, "error": error or "stopped before its end"})
    return found


def _section(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    folder = run.figures / record["notebook"]
    figures = [
        figure
        | {
            "data": base64.b64encode((folder / f"{figure['name']}.png").read_bytes()).decode(),
            "pdf": f"../../figures/{run.name}/{record['notebook']}/{figure['name']}.pdf",
        }
        for figure in record["figures"]
    ]
    tables = [
        table
        | {
            "html": _html(folder / f"{table['name']}.csv"),
            "csv": f"../../figures/{run.name}/{record['notebook']}/{table['name']}.csv",
        }
        for table in record["tables"]
    ]
    papers = list(dict.fromkeys(claim["id"].split(".")[0] for claim in record["claims"])) or ["kermany2018"]
    paper = PAPERS[papers[0]] if len(papers) == 1 else f"{len(papers)} papers"
    return {"notebook": record["notebook"], "paper": paper, "figures": figures, "tables": tables}


def _html(csv: Path) -> str:
    """A CSV as an HTML table; pandas escapes what the cells hold."""
    frame = pd.read_csv(csv)
    with pd.option_context("display.max_colwidth", None):  # pandas would cut sentences at 50 letters
        return frame.to_html(index=False, border=0, na_rep="", max_rows=60, float_format=lambda value: f"{value:.4g}")


def _coverage(records: dict[str, dict]) -> list[dict[str, Any]]:
    from helpers.claims import coverage, load_published

    items = [item for record in records.values() for item in record["figures"] + record["tables"]]
    made = {name for item in items for name in item["published"]}
    return coverage(load_published(), made).to_dict("records")


def _warnings(run: Run, records: dict[str, dict]) -> list[tuple[str, str]]:
    stages = [
        (path.stem, text)
        for path in sorted((run.folder / "stages").glob("*.json"))
        for text in read_json(path)["warnings"]
    ]
    told = {text for _, text in stages}
    return stages + [
        (name, text) for name, record in records.items() for text in record["warnings"] if text not in told
    ]


def _excluded(records: dict[str, dict]) -> list[dict[str, str]]:
    every = [row for record in records.values() for row in record["excluded"]]
    return list({row["path"]: row for row in every}.values())


def _facts(run: Run, records: dict[str, dict]) -> list[tuple[str, str]]:
    """What ran, as rows of two cells."""
    if not records:
        return []
    record = next(iter(records.values()))
    facts = [("commit", record["commit"]), ("seed", str(record["profile"]["seed"]))]
    facts += [(f"hardware: {key}", _words(value)) for key, value in record["hardware"].items()]
    facts += [(f"version: {key}", value) for key, value in record["versions"].items()]
    for path in sorted((run.folder / "stages").glob("*.json")):
        facts += [(f"{path.stem}: {key}", _words(value)) for key, value in read_json(path).items() if key != "warnings"]
    return facts


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _durations(run: Run) -> list[tuple[str, float]]:
    return [(path.stem, read_json(path)["seconds"]) for path in sorted((run.folder / "timings").glob("*.json"))]
