"""Rajkomar 2017: frontal or lateral, by networks pre-trained in colour and in grey (notebook 08)."""

from helpers.rajkomar.keys import RajkomarKeys
from helpers.run.steps import DataSet, Notebook, PaperStudy, Step, data_step

DATA = "helpers.rajkomar.data"

STUDY = PaperStudy(
    paper="rajkomar2017",
    title="Rajkomar et al. 2017, High-throughput classification of radiographs using deep CNNs",
    keys=RajkomarKeys,
    data={
        "views": DataSet(DATA, ("seed", "split", "view_source", "view_labels_file", "phantom_view_")),
    },
    steps={
        "views_data": data_step("views"),
        "view_models": Step(
            "experiment",
            "views",
            "helpers.rajkomar.models:train_view_models",
            ("backbone", "view_", "head_standardise"),
            ("views_data",),
        ),
    },
    notebooks={"08_view_classification": Notebook("views", ("view_models",))},
)
