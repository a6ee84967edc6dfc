"""What every figure shares: print sizes, type, names, and colours that keep their meaning from figure to figure."""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib as mpl
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, BboxImage, FigureImage

from helpers.run.paths import LABELS

PNG_DPI = 200  # pixels an inch
MESH = 400  # cells of a heat map or colour bar; more are taken for an image
SINGLE, DOUBLE = 3.35, 6.85  # inches: one column and two columns of the journal (85 and 174 mm)

# Okabe and Ito's palette: distinct for colour-blind readers, and in grey.
TRAINING, VALIDATION, TEST = "#E69F00", "#0072B2", "#666666"
NETWORK, READERS, REFERENCE, LIMITED = "#D9A400", "#3B6FB6", "#999999", "#CC5500"
CLASSES = {"CNV": "#D55E00", "DME": "#CC79A7", "DRUSEN": "#009E73", "NORMAL": "#56B4E9"}
Mark = tuple[str, str, str]  # marker, fill, edge
MARKS: tuple[Mark, ...] = (("o", "white", "#333333"), ("s", "#E69F00", "#7A5300"), ("D", "#0072B2", "#00395A"))

NAMES = tomllib.loads(LABELS.read_text(encoding="utf-8"))  # labels as figures and tables show them

RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that every machine draws the same letters
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,  # the grid lies under the data
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "grid.linewidth": 0.4,
    "grid.color": "0.9",
    "figure.dpi": 150,
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # letters stay letters in the PDF
}


def print_style(draw: Callable) -> Callable:
    """Decorate a function that draws: it draws at print size and its figure is finished, the reader's own settings left
    alone."""

    @wraps(draw)
    def drawn(*args, **options):
        with mpl.rc_context(RC):
            made = draw(*args, **options)
            return finish(made) if isinstance(made, Figure) else made

    return drawn


def finish(figure: Figure) -> Figure:
    """Put letters on a figure's panels, and let each axis of AUROCs run from 0 to 1, as in every figure."""
    letter_panels(figure)
    for axes in figure.axes:
        if "AUROC" in axes.get_xlabel():
            axes.set_xlim(0, 1)
        if "AUROC" in axes.get_ylabel():
            axes.set_ylim(0, 1)
    return figure


def display_name(label: str) -> str:
    """A label as a figure shows it."""
    words = (word if word.isupper() else word.lower() for word in label.replace("_", " ").split(" "))
    text = " ".join(words)
    return NAMES.get(label, text[:1].upper() + text[1:])


def source_of(weights: str) -> str:
    """What a network's weights were learnt from, as far as the profile's word for them says."""
    known = {"imagenet": "ImageNet photographs", "formula": "images made from formulas", "none": "random weights"}
    return known.get(weights.split("_")[0], f"the images behind {Path(weights).name}")


def in_percent(probability: float, digits: int = 1) -> str:
    """A probability in per cent; no network is certain, so neither 0 nor 100 is printed."""
    share, least = 100 * probability, 10.0**-digits
    if share < least:
        return f"< {least:g} %"
    return f"> {100 - least:g} %" if share > 100 - least else f"{share:.{digits}f} %"


def canvas(width: float = DOUBLE, height: float = 2.6, rows: int = 1, columns: int = 1, **options):
    """A figure of print size (inches) and its axes, as matplotlib's `subplots` gives them."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


def letter_panels(figure: Figure, first: str = "A") -> None:
    """A letter at the top left of each panel, from `first` on, where there are several and one is no image.

    A figure that has letters keeps them; a grid of images alone is named by its rows and columns.
    """
    panels = [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]
    lettered = any(note.get_gid() == "letter" for axes in panels for note in axes.texts)
    if len(panels) < 2 or lettered or all(axes.images for axes in panels):
        return
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "fontweight": "bold", "fontsize": 10}
    for place, axes in enumerate(panels):
        at = (0, 3) if axes.images else (-20, 8)  # an image has no labels at its left
        axes.annotate(chr(ord(first) + place), (0, 1), at, gid="letter", **style)


def add_footnote(figure: Figure, text: str) -> None:
    """Small words at a figure's foot, in a strip of their own, so that they cover nothing."""
    if text:
        width, height = figure.get_size_inches()
        lines = textwrap.wrap(text, max(20, int(22 * width)))  # 22 letters an inch at this size
        lines = textwrap.wrap(text, len(text) // len(lines) + 8)  # lines of like lengths, no word alone
        strip, text = 0.113 * (len(lines) + 0.3) / height, "\n".join(lines)
        figure.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))
        figure.text(0.995, 0.005, text, ha="right", va="bottom", fontsize=6, color="0.35", family="DejaVu Sans")


def shows_pixels(figure: Figure) -> bool:
    """Whether a figure holds an image, or a mesh as fine as one, which might be a picture of a patient."""
    meshes = figure.findobj(lambda artist: isinstance(artist, QuadMesh) and artist.get_array().size > MESH)
    return bool(meshes or figure.findobj(lambda artist: isinstance(artist, (AxesImage, BboxImage, FigureImage))))


@print_style
def save_figure(figure: Figure, path: Path) -> None:
    """Save as the file's ending says (.pdf or .png), without a date, and close the figure once it is in a PNG."""
    import matplotlib.pyplot as plt

    nameless = {".pdf": {"CreationDate": None, "Creator": None, "Producer": None}, ".png": {"Software": None}}
    figure.savefig(path, dpi=PNG_DPI, metadata=nameless[path.suffix])
    if path.suffix == ".png":
        plt.close(figure)
