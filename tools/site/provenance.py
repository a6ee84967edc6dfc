"""What a machine reads of a site: a CODECHECK manifest and an RO-Crate, of every figure and table of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CRATE = "https://w3id.org/ro/crate/1.1"
TYPES = {".pdf": "application/pdf", ".png": "image/png", ".csv": "text/csv", ".html": "text/html"}
CITATION = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))


def listed(records: dict[str, dict]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The notebook, file and item of every figure and table."""
    for name, record in records.items():
        for suffix, items in ((".pdf", record["figures"]), (".csv", record["tables"])):
            for item in items:
                yield name, f"figures/{name}/{item['name']}{suffix}", item


def codecheck(records: dict[str, dict]) -> str:
    """A codecheck.yml by the specification's version 1.0; nobody has checked yet, so it names no codechecker."""
    manifest = []
    for name, file, item in listed(records):
        ids = f" [{', '.join(item['published'])}]" if item["published"] else ""
        manifest.append({"file": file, "comment": f"{item['shows']}: {item['caption']}{ids} (notebook {name})"})
    paper = {"title": CITATION["title"], "authors": [{"name": one["name"]} for one in CITATION["authors"]]}
    content = {"version": "https://codecheck.org.uk/spec/config/1.0/", "paper": paper, "manifest": manifest}
    return "---\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def _address(paper: dict[str, Any]) -> str:
    """A paper's DOI or address; a name within the crate where it has neither."""
    if "doi" in paper:
        return f"https://doi.org/{paper['doi']}"
    return paper.get("url", f"#{paper['authors'][0]['family-names'].lower()}{paper['year']}")


def crate(records: dict[str, dict], executed: set[str], run: str, day: str) -> str:
    """An RO-Crate 1.1: files, the notebooks that made them, the papers they are about, and the commit."""
    first = next(iter(records.values()), {"commit": "no notebook ran"})
    files = [{"@id": "report.html", "@type": "File", "name": f"Report of run {run}", "encodingFormat": "text/html"}]
    files += [
        {
            "@id": f"notebooks/{name}.html",
            "@type": ["File", "SoftwareSourceCode"],
            "name": name,
            "version": one["commit"],
        }
        for name, one in records.items()
        if name in executed
    ]
    for name, file, item in listed(records):
        made = {"@id": file, "@type": "File", "name": item["shows"], "description": item["caption"]}
        made |= {"encodingFormat": TYPES[Path(file).suffix], "version": records[name]["commit"]}
        made |= {"isBasedOn": {"@id": f"notebooks/{name}.html"}} if name in executed else {}
        files.append(made)
    papers = [
        {"@id": _address(one), "@type": "ScholarlyArticle", "name": one["title"]} for one in CITATION["references"]
    ]
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{CITATION['title']}: run {run}",
        "description": f"Figures, tables and report of one run, at commit {first['commit']}.",
        "datePublished": day,
        "license": {"@id": "https://spdx.org/licenses/MIT"},
        "hasPart": [{"@id": one["@id"]} for one in files],
        "citation": [{"@id": one["@id"]} for one in papers],
    }
    about = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "conformsTo": {"@id": CRATE},
        "about": {"@id": "./"},
    }
    licence = {"@id": "https://spdx.org/licenses/MIT", "@type": "CreativeWork", "name": "MIT License"}
    graph = [about, root, *files, *papers, licence]
    return json.dumps({"@context": f"{CRATE}/context", "@graph": graph}, indent=1, ensure_ascii=False)
