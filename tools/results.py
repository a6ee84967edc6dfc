"""What real images gave, into figures/real/ and the README, without any image: `make results RUN=<run>`.

From a finished run on real images come the tables and figures that `results.toml` names, each with its subset: how
many images of how many patients, the network, the commit. Two things keep pictures of patients out whatever that list
says: a figure comes in only where the notebook's record says that it holds no pixels, and a table only where no row is
an image's. figures/real/apart/ holds what was scored once and apart on the papers' own test images. From both, and from
the audit, follow the README's table and figures/real/results.png; without RUN only these are made again.
"""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from helpers.audit import checks
from helpers.metrics.estimate import Estimate
from helpers.plots.style import PNG_DPI, canvas, finish, print_style, save_figure
from helpers.run import paths
from helpers.run.claims import compare, load_published, margin_range
from helpers.run.profile import ProfileError, Run
from helpers.run.provenance import read_json

REAL, README = paths.FIGURES / "real", paths.ROOT / "README.md"
AUDIT = "13_paper_audit"
BEGIN, END = "<!-- results: made by `make results` -->", "<!-- end of results -->"
CAPTION = (
    "*Diamonds: published; dots and lines: obtained on real images, with 95 % intervals. `fine-tuned*`: whole "
    "networks, beyond the paper's last layer. Verdicts go by the margins in `data/published/margins.toml`.*"
)
OF_AN_IMAGE = {"image", "image_id", "file", "path", "patient", "patient_id", "name", "digest"}  # columns that name one
NETWORKS = {"08": "view_", "09": "bridge_", "10": "bridge_", "11": "chexnet_", "12": "sites_"}  # prefix of their keys
KEPT = ["id", "notebook", "group", "quantity", "published", "obtained", "n", "verdict", "alone", "explanation"]
COLOURS = {"reproduced": "#0072B2", "not reproduced": "#D55E00", "inconclusive": "#D9A400"}  # told apart by all


def listed() -> dict[str, Any]:
    """The content of results.toml."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


# --- from a run ------------------------------------------------------------------------------------------------------


def bring_run(run: Run, target: Path | None = None) -> list[str]:
    """Bring a run's tables, figures and claims into figures/real/; returns what was left out, with the reason.

    Notebooks on phantoms are left out whole. What an earlier run left of the same notebooks is replaced.
    """
    target, left_out, claims = target or REAL, [], []
    records = [read_json(path) for path in sorted((run.folder / "records").glob("*.json"))]
    if not records:
        raise ProfileError(f"run {run.name} has no finished notebook: make reproduce RUN={run.name} PROFILE=paper")
    for record in records:
        name = record["notebook"]
        source = record.get("facts", {}).get("source", "")
        if not source or source.startswith("phantom"):
            left_out.append(f"{name}: {'phantoms' if source else 'no image, or a record of older code'}")
            continue
        shutil.rmtree(target / name, ignore_errors=True)
        for item in [*record["tables"], *record["figures"]]:
            if why := _bring(run.figures / name, item, name, subset_of(record, item["name"]), target):
                left_out.append(f"{name}/{item['name']}: {why}")
        claims.append(_claims_of(record))
    _merge_claims(target / "claims.csv", claims)
    return left_out


def subset_of(record: dict[str, Any], table: str = "") -> str:
    """Which images of how many patients, which network, which commit, in one line."""
    commit = f"commit {record['commit'].rstrip('+')}"
    if table in listed()["rescored"].get(record["notebook"], ()):
        return f"{listed()['rescored']['images']}; {commit}"
    facts, profile = record["facts"], record["profile"]
    counts = {part: facts.get(f"{part} images") for part in ("train", "validation", "test")}
    parts = [f"{n:,} {part}" for part, n in counts.items() if n]
    prefix = NETWORKS.get(record["notebook"][:2], "")
    network = profile.get(f"{prefix}backbone") or profile["backbone"]
    size = profile.get(f"{prefix}size", 0) or profile["image_size"]
    images = f"{facts['source']}: {', '.join(parts)} images of {facts['patients']:,} patients"
    return f"{images}; {network}{f' at {size} px' if size else ''}; {commit}"


def _bring(folder: Path, item: dict[str, Any], notebook: str, subset: str, target: Path) -> str:
    """Copy one table or figure with its subset; the reason where it may not come in."""
    if item["name"] not in listed()["without_images"].get(notebook, ()):
        return "not in results.toml"
    place = target / notebook
    if "compared" in item:  # a table
        table = pd.read_csv(folder / f"{item['name']}.csv")
        if named := OF_AN_IMAGE & {str(column).lower() for column in table.columns}:
            return f"its rows name images (column {', '.join(sorted(named))})"
        place.mkdir(parents=True, exist_ok=True)
        table.assign(subset=subset).to_csv(place / f"{item['name']}.csv", index=False, lineterminator="\n")
        return ""
    if item.get("pixels") is not False:
        return "it holds pixels" if item.get("pixels") else "its record does not say that it holds no pixels"
    place.mkdir(parents=True, exist_ok=True)
    stamp(folder / f"{item['name']}.png", place / f"{item['name']}.png", subset)
    return ""


def stamp(source: Path, target: Path, text: str) -> None:
    """The picture with a line below that names its subset."""
    import textwrap

    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", PNG_DPI // 14)
    with Image.open(source) as picture:
        picture = picture.convert("RGB")
    lines = textwrap.wrap(text, max(20, picture.width // (PNG_DPI // 22)))
    height = (PNG_DPI // 10) * len(lines) + 8
    made = Image.new("RGB", (picture.width, picture.height + height), "white")
    made.paste(picture, (0, 0))
    ImageDraw.Draw(made).multiline_text((8, picture.height), "\n".join(lines), fill=(80, 80, 80), font=font)
    made.quantize(64).save(target, dpi=(PNG_DPI, PNG_DPI), optimize=True)


def _claims_of(record: dict[str, Any]) -> pd.DataFrame:
    """The claims for which the notebook obtained something, with the numbers behind the words."""
    table = pd.DataFrame(record["claims"])
    table = table[table["obtained"] != ""][KEPT] if len(table) else pd.DataFrame(columns=KEPT)
    for end in ("value", "low", "high"):
        table[end] = [record["obtained"].get(name, {}).get(end) for name in table["id"]]
    rescored = listed()["rescored"].get(record["notebook"], [""])[0]
    words = table["explanation"].str.contains("re-scored")
    return table.assign(subset=[subset_of(record, rescored if again else "") for again in words])


def _merge_claims(path: Path, claims: list[pd.DataFrame]) -> None:
    made = pd.concat(claims) if claims else pd.DataFrame(columns=KEPT)
    if path.is_file():
        old = pd.read_csv(path)
        made = pd.concat([old[~old["notebook"].isin(made["notebook"])], made])
    path.parent.mkdir(parents=True, exist_ok=True)
    made = made.sort_values(["notebook", "id"])
    made.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


# --- the README's table ----------------------------------------------------------------------------------------------


def results_rows() -> list[dict[str, Any]]:
    """The rows of the README's table, from committed files alone."""
    given, published, path = listed(), load_published(), REAL / "claims.csv"
    of_run = pd.read_csv(path, keep_default_na=False).set_index("id") if path.is_file() else pd.DataFrame()
    rows = []
    for row in given["rows"]:
        if "table" in row:
            rows.append(_apart(row, given["subsets"][row["subset"]], published))
        elif row["claim"] in of_run.index:
            rows.append(_of_run(row, of_run.loc[row["claim"]], published))
    return rows


def _apart(row: dict[str, Any], subset: dict[str, Any], published: pd.DataFrame) -> dict[str, Any]:
    table = pd.read_csv(REAL / "apart" / f"{row['table']}.csv")
    for column, wanted in row.get("where", {"model": row.get("model"), "quantity": row.get("quantity")}).items():
        table = table[table[column] == wanted]
    (found,) = table.to_dict("records")
    value = row.get("value", "value")
    obtained = Estimate(found[value], found["low"], found["high"], int(found["n"]), "apart")
    claim = published[published["id"] == row["claim"]]
    judged = compare(claim, {row["claim"]: obtained}, subset["differs"]).iloc[0]
    numbers = {"value": obtained.value, "low": obtained.low, "high": obtained.high}
    return (
        row
        | judged.to_dict()
        | numbers
        | {"images": subset["images"], "notebook": row["notebook"], **_published(claim)}
    )


def _of_run(row: dict[str, Any], found: pd.Series, published: pd.DataFrame) -> dict[str, Any]:
    numbers = {end: float("nan" if found[end] == "" else found[end]) for end in ("value", "low", "high")}
    images = found["subset"].rpartition("; commit")[0]
    claim = published[published["id"] == row["claim"]]
    return row | found.to_dict() | numbers | {"images": images, **_published(claim)}


def _published(claim: pd.DataFrame) -> dict[str, Any]:
    only = claim.iloc[0]
    printed = {"printed_value": float(only["value"]), "margin": margin_range(only)}
    return printed | {name: only[name] for name in ("unit", "measure")}


def families() -> list[dict[str, Any]]:
    """Claims that one row of the table sums up: the areas of fourteen findings, say."""
    path, found = REAL / "claims.csv", []
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame({"id": []})
    published = load_published().set_index("id")["value"]
    for family in listed()["families"]:
        rows = table[table["id"].astype(str).str.startswith(family["claims"])].copy()
        if len(rows):
            rows["printed_value"] = published[rows["id"]].to_numpy()
            found.append(family | {"table": rows})
    return found


def block() -> str:
    """The README's part between the markers: picture, table, and what follows from it."""
    rows = results_rows()
    lines = [BEGIN, "", "![Published and obtained results on real images](figures/real/results.png)", ""]
    lines += [CAPTION, ""]
    lines += ["| claim | published | obtained (95 % interval) | on which images | verdict |", "|---|---|---|---|---|"]
    lines += [_line(row) for row in rows]
    lines += [_family_line(family) for family in families()]
    lines += [_audit_line(), "", *_summary(rows), "", END]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    link = f"[{row['obtained']}](notebooks/{row['notebook']}.ipynb)"
    return f"| {row['says']} | {row['published'].partition(' (')[0]} | {link} | {row['images']} | {_word(row)} |"


def _word(row: dict[str, Any]) -> str:
    return f"not comparable; by the numbers alone **{row['alone']}**" if row["alone"] else f"**{row['verdict']}**"


def _family_line(family: dict[str, Any]) -> str:
    table = family["table"]
    span = [f"{100 * table[name].min():.1f} to {100 * table[name].max():.1f} %" for name in ("printed_value", "value")]
    words = table["alone"].fillna("").where(table["alone"].fillna("") != "", table["verdict"]).value_counts()
    told = ", ".join(f"{n} **{word}**" for word, n in words.items())
    link = f"[{span[1]}](notebooks/{table['notebook'].iloc[0]}.ipynb)"
    other = (
        "not comparable (another network than the talk's); by the numbers alone "
        if table["alone"].notna().any()
        else ""
    )
    return f"| {family['says']} | {span[0]} | {link} | {family['images']} | {other}{told} |"


def audit_outcomes() -> pd.DataFrame:
    """Checks of the printed numbers by paper and outcome, asked anew."""
    return checks.tally(checks.run_audit(checks.load_checks())).rename_axis("paper")


def _audit() -> pd.DataFrame:
    return pd.read_csv(REAL / "audit.csv").set_index("paper")


def _audit_line() -> str:
    total = _audit().loc["all"]
    outcomes = ", ".join(f"{int(n)} {name}" for name, n in total.drop("checks").items())
    link = f"[{outcomes}](notebooks/{AUDIT}.ipynb)"
    asked = f"{int(total['checks'])} checks"
    return f"| Can the printed numbers be true as printed? | {asked} | {link} | none: the texts alone | audit |"


def _summary(rows: list[dict[str, Any]]) -> list[str]:
    """What reproduced, what did not and why, and what cannot be said: a line each, the same size."""
    lines = []
    for word in ("not reproduced", "inconclusive", "reproduced"):
        found = [row for row in rows if (row["alone"] or row["verdict"]) == word]
        links = {row["says"]: f"[{row['says']}](notebooks/{row['notebook']}.ipynb)" for row in found}
        names = [links[row["says"]] + (f" ({row['why']})" if row.get("why") else "") for row in found]
        lines.append(f"- **{word.capitalize()}**, by the numbers alone: {'; '.join(names) or 'none'}.")
    lines.append(
        "- **Nothing here is the published experiment**: there were fewer images to learn from, and a smaller network. "
        "Tables and figures, each with its subset, are in `figures/real/`; what was scored once on the papers' own "
        "test images is in `figures/real/apart/`."
    )
    return lines


def with_block(text: str) -> str:
    """The README's text with the part between the markers made anew."""
    if BEGIN not in text or END not in text:
        raise ProfileError(f"README.md lacks the markers {BEGIN} and {END}")
    return text[: text.index(BEGIN)] + block() + text[text.index(END) + len(END) :]


# --- the picture -----------------------------------------------------------------------------------------------------


@print_style
def draw_results(path: Path) -> None:
    """The composite picture: published beside obtained, the fourteen areas, the controls, and the audit."""
    figure, axes = canvas(height=4.5)
    axes.remove()
    grid = figure.add_gridspec(3, 2, width_ratios=(1.1, 1), height_ratios=(1.45, 0.95, 0.8))
    left = figure.add_subplot(grid[:, 0])
    areas, controls, audit = (figure.add_subplot(grid[place, 1]) for place in range(3))
    rows = [row for row in results_rows() if row["unit"] == "proportion" and row["measure"] != "error"]
    forest = pd.DataFrame(rows).assign(colour=[COLOURS.get(row["alone"] or row["verdict"], "0.4") for row in rows])
    _intervals(left, forest, forest["says"])
    for place, (low, high) in enumerate(forest["margin"]):
        left.barh(place, high - low, left=low, height=0.75, color="0.88", zorder=0)
    left.set(title="Published and obtained", xlabel="accuracy or AUROC; grey: margin of the published value")
    handles = [Line2D([], [], color=colour, marker="o", ms=3, label=word) for word, colour in COLOURS.items()]
    left.legend(handles=handles, fontsize=5, loc="upper left", title="by the numbers alone", title_fontsize=5)
    for family in families()[:1]:
        table = family["table"].sort_values("printed_value", ascending=False).reset_index(drop=True)
        names = table["id"].str.split(".").str[-1].str.replace("_", " ").str.capitalize()
        _intervals(areas, table.assign(colour="#0072B2"), names)
    areas.set(title="CheXNet, re-scored", xlabel="AUROC", visible=bool(families()))
    table = pd.read_csv(REAL / "apart" / "covid_controls.csv")
    table = table[~table["quantity"].str.contains("recipe")].reset_index(drop=True)
    _intervals(controls, table.assign(colour="#D55E00"), table["quantity"].str.replace(", learnt without COVID-19", ""))
    controls.axvline(0.5, color="0.6", lw=0.6)
    controls.set(title="COVID-19, or its source?", xlabel="AUROC of COVID-19 against the rest")
    _outcomes(audit)
    save_figure(finish(figure), path)


def _intervals(axes: Axes, table: pd.DataFrame, names: pd.Series) -> None:
    """A line per row: the obtained value and its interval; a hollow diamond where the published value is known."""
    for place, (_, row) in enumerate(table.iterrows()):
        axes.plot([row["low"], row["high"]], [place, place], color=row["colour"], lw=1.4)
        if "printed_value" in row:
            axes.plot(row["printed_value"], place, "D", color="k", mfc="none", mew=0.6, ms=4, clip_on=False)
        axes.plot(row["value"], place, "o", color=row["colour"], ms=2.5, clip_on=False)
    axes.set_yticks(range(len(table)), names, fontsize=5)
    axes.invert_yaxis()
    axes.title.set_fontsize(6.5)


def _outcomes(axes: Axes) -> None:
    table = _audit().drop("all")
    table = table.rename(lambda name: " and ".join(f"{one[:-4].title()} {one[-4:]}" for one in name.split(" and ")))
    start, shades = (
        pd.Series(0.0, table.index),
        {"consistent": "0.8", "undecidable": "#E69F00", "inconsistent": "#D55E00"},
    )
    for name in [name for name in table.columns if name != "checks"]:
        axes.barh(table.index, table[name], left=start, color=shades.get(name, "0.5"), label=name)
        start = start + table[name]
    axes.tick_params(axis="y", labelsize=5)
    axes.invert_yaxis()
    axes.legend(fontsize=5, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(title="Audit of the printed numbers", xlabel="checks")
    axes.title.set_fontsize(6.5)


def main(words: list[str]) -> int:
    """Bring a run in, where one is named; then make the picture and the README's table anew."""
    try:
        for line in bring_run(Run(words[0])) if words else ():
            print(f"left out: {line}", file=sys.stderr)
        audit_outcomes().to_csv(REAL / "audit.csv", lineterminator="\n")
        draw_results(REAL / "results.png")
        README.write_text(with_block(README.read_text(encoding="utf-8")), encoding="utf-8")
    except ProfileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("figures/real/ and the README's table are made", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
