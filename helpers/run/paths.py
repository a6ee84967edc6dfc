"""Where everything lies. Every other module takes its folders from here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout
NOTEBOOKS = ROOT / "notebooks"  # committed without outputs
PROFILES = ROOT / "profiles"  # one TOML file a profile
PUBLISHED = ROOT / "data" / "published"  # what the papers print: committed facts
LABELS = PUBLISHED / "labels.toml"  # names of the data sets' labels, for figures, tables and the report
RAW = ROOT / "data" / "raw"  # downloaded archives and what they unpack to
CACHE = ROOT / "data" / "cache"  # phantoms, scans and bottlenecks: can be deleted, will be made again
FIGURES = ROOT / "figures"  # figures/<run>/<notebook>/: pictures and tables
REFERENCE = FIGURES / "reference"  # the committed ones, made by `make reference`
RUNS = ROOT / "runs"  # runs/<run>/: executed notebooks, scores, claims, report
