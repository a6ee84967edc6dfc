"""What every figure shares: print sizes, type, names, and colours that keep their meaning from figure to figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, BboxImage, FigureImage

PNG_DPI = 200  # pixels an inch
MESH = 400  # cells of a heat map or colour bar; more are taken for an image
SINGLE, DOUBLE = 3.35, 6.85  # inches: one column and two columns of the journal (85 and 174 mm)

# Okabe and Ito's palette: distinct for colour-blind readers, and in grey.
TRAINING, VALIDATION, TEST = "#E69F00", "#0072B2", "#666666"
NETWORK, READERS, REFERENCE, LIMITED = "#D9A400", "#3B6FB6", "#999999", "#CC5500"
CLASSES = {"CNV": "#D55E00", "DME": "#CC79A7", "DRUSEN": "#009E73", "NORMAL": "#56B4E9"}
Mark = tuple[str, str, str]  # marker, fill, edge
MARKS: tuple[Mark, ...] = (("o", "white", "#333333"), ("s", "#E69F00", "#7A5300"), ("D", "#0072B2", "#00395A"))

NAMES = {"CNV": "CNV", "DME": "DME", "DRUSEN": "Drusen", "NORMAL": "Normal"}  # labels as figures show them
NAMES |= {"MH": "Macular hole", "DR": "Diabetic retinopathy", "CSR": "Central serous retinopathy"}
NAMES |= {"BACTERIA": "Bacterial pneumonia", "VIRUS": "Viral pneumonia", "PNEUMONIA": "Pneumonia"}

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


# Decorates a function that draws: all of it is drawn at print size, and the reader's own settings are left alone.
print_style = mpl.rc_context(RC)


def display_name(label: str) -> str:
    """A label as a figure shows it."""
    words = (word if word.isupper() else word.lower() for word in label.replace("_", " ").split(" "))
    text = " ".join(words)
    return NAMES.get(label, text[:1].upper() + text[1:])


def canvas(width: float = DOUBLE, height: float = 2.6, rows: int = 1, columns: int = 1, **options):
    """A figure of print size (inches) and its axes, as matplotlib's `subplots` gives them."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


def letter(axes: Axes, text: str) -> None:
    """A panel's letter at its top left, outside the axes."""
    place = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(text, (0, 1), (-20, 8), **place, fontweight="bold", fontsize=10)


def letter_panels(panels: Iterable[Axes], first: str = "A") -> None:
    """Letters on several panels, from `first` on."""
    for place, axes in enumerate(panels):
        letter(axes, chr(ord(first) + place))


def add_footnote(figure: Figure, text: str) -> None:
    """Small words at a figure's foot, in a strip of their own, so that they cover nothing."""
    if text:
        width, height = figure.get_size_inches()
        lines = textwrap.wrap(text, max(20, int(22 * width)))  # 22 letters an inch at this size
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
