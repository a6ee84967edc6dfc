"""What every drawn figure must hold: print size, its words, no overlap of its legends with its panels' labels."""

from itertools import combinations

from matplotlib.legend import Legend
from matplotlib.text import Text

from helpers.plots.style import DOUBLE, add_footnote, save_figure


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def assert_drawn(figure, words: str, folder) -> None:
    """At most two columns wide, saved with its footnote, `words` somewhere in it, and panels clear of each other."""
    assert figure.get_size_inches()[0] <= DOUBLE + 1e-9
    assert words in words_of(figure)
    add_footnote(figure, "Phantoms: no evidence about the paper.")
    figure.canvas.draw()
    axes = [one.get_window_extent() for one in figure.axes if one.axison]
    assert not [pair for pair in combinations(axes, 2) if _overlap(*pair) > 4]
    for legend in figure.findobj(Legend):
        whole, others = legend.get_window_extent(), [one for one in figure.axes if legend.axes is not one]
        assert not [one for one in others if _overlap(whole, one.get_window_extent()) > 4], "a legend covers a panel"
    save_figure(figure, folder / "figure.png")
    assert (folder / "figure.png").stat().st_size > 5000


def _overlap(a, b) -> float:
    """The common area of two boxes in square pixels."""
    width, height = (min(a.max[i], b.max[i]) - max(a.min[i], b.min[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0)
