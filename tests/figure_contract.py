"""What every drawn figure promises: print size, its words, and a file that a page can show."""

from matplotlib.text import Text

from helpers.plots.style import DOUBLE, add_footnote, save_figure


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def assert_drawn(figure, words: str, folder) -> None:
    """At most two columns wide, saved with its footnote, and `words` stand somewhere in it."""
    assert figure.get_size_inches()[0] <= DOUBLE + 1e-9
    add_footnote(figure, "Phantoms: no evidence about the paper.")
    save_figure(figure, folder / "figure.png")
    assert (folder / "figure.png").stat().st_size > 5000
    assert words in words_of(figure)
