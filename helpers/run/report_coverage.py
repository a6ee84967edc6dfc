"""The report's page on coverage: every figure and table of the texts, with the file that shows it or why none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from helpers.run.runs import Run, blocked_by

STATUS = {"made": "made", "not made": "not in this run", "no notebook": "left out"}


def coverage_of(run: Run, records: dict[str, dict], papers: Iterable[str]) -> list[dict[str, Any]]:
    """One entry a paper: its key, a tally in words, and a row for each figure and table.

    A row holds what `helpers.run.claims.coverage` gives, `status` in words, `files` (what shows it, see `files_made`) and
    `reason`: why none can make it, what ours cannot show, or why this run has not made it. Raises `ClaimError` for a
    published id that data/published/ does not have.
    """
    from helpers.run.claims import coverage, load_published

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
                shown = {"file": file, "href": f"../../{file}", "anchor": anchor(notebook, item["name"])}
                for published in item["published"]:
                    found.setdefault(published, []).append(shown)
    return found


def anchor(notebook: str, name: str) -> str:
    """Where the report shows a figure or table."""
    return f"{notebook}-{name}"


def _why_not_made(run: Run, notebook: str, records: dict[str, dict]) -> str:
    if notebook in records:
        return "the notebook ran and did not make it"
    if run.failed(notebook).is_file():
        return "the notebook failed"
    if steps := blocked_by(run, notebook):
        return f"the step {', '.join(steps)} failed"
    return ""


def _tally(rows: list[dict]) -> str:
    """'35 figures and tables: 31 made, 4 left out'."""
    counts = Counter(row["status"] for row in rows)
    told = [f"{counts[word]} {word}" for word in STATUS.values() if counts[word]]
    return f"{len(rows)} figures and tables: {', '.join(told)}"
