"""What every drawn figure must hold: print size, its words, no overlap of its legends with its panels."""

from itertools import combinations

import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text

from helpers.plots.style import DOUBLE, add_footnote, save_figure


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def drawing_test(drawn):
    """A test that each of `drawn`, name to (function, words), draws at print size, without warning, nothing covered."""

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("name", drawn)
    def test(name, tmp_path):
        draw, words = drawn[name]
        figure = draw()
        assert figure.get_size_inches()[0] <= DOUBLE + 1e-9
        assert words in words_of(figure)
        charts = [axes for axes in figure.axes if axes.axison and not axes.images and axes.get_label() != "<colorbar>"]
        letters = [text.get_text() for text in figure.findobj(Text) if text.get_gid() == "letter"]
        assert len(letters) == len(set(letters)) >= (len(charts) if len(charts) > 1 else 0)
        assert all(axes.get_xlim() == (0, 1) for axes in charts if "AUROC" in axes.get_xlabel())
        add_footnote(figure, "Phantoms: no evidence about the paper.")
        save_figure(figure, tmp_path / "figure.png")
        panels = [axes.get_window_extent() for axes in figure.axes if axes.axison]
        assert not [pair for pair in combinations(panels, 2) if _overlap(*pair) > 4], "panels overlap"
        for legend in figure.findobj(Legend):
            others = [axes.get_window_extent() for axes in figure.axes if axes is not legend.axes]
            assert not [panel for panel in others if _overlap(legend.get_window_extent(), panel) > 4], "legend on panel"

    return test


def _overlap(a, b) -> float:
    """The common area of two boxes in square pixels."""
    width, height = (min(a.max[i], b.max[i]) - max(a.min[i], b.min[i]) for i in (0, 1))
    return max(width, 0) * max(height, 0)
