"""Can the published numbers be true as printed? An audit from data/published/ alone, without an image (notebook 13)."""

from helpers.run.steps import Notebook, PaperStudy

STUDY = PaperStudy(
    paper="",
    title="The audit of the printed numbers",
    notebooks={"13_paper_audit": Notebook(files=("data/published/*",))},
)
