"""Zech 2018: CheXNet reproduced, and why it does not generalise (notebooks 11 and 12)."""

from helpers.run.steps import DataSet, Notebook, PaperStudy, Step, data_step
from helpers.zech.keys import ZechKeys

DATA = "helpers.zech.data"
NETWORK = ("seed", "backbone", "weights", "image_size", "engine", "precision", "sites_")

STUDY = PaperStudy(
    paper="zech2018",
    title="Zech 2018, Deep learning in radiology: promise and caveats",
    keys=ZechKeys,
    data={
        "nih": DataSet(DATA, ("seed", "split", "nih_source", "phantom_nih_")),
        "sites": DataSet(DATA, ("seed", "split", "sites_source", "phantom_sites_bodies")),
        "regions": DataSet(DATA, ("seed", "split", "phantom_sites_regions")),
    },
    steps={
        "nih_data": data_step("nih"),
        "chexnet": Step(
            "experiment",
            "nih",
            "helpers.zech.chexnet:train_chexnet",
            ("backbone", "weights", "chexnet_", "head_standardise"),
            ("nih_data",),
        ),
        "sites_data": data_step("sites"),
        "site_models": Step("experiment", "sites", "helpers.zech.sites:train_site_models", NETWORK, ("sites_data",)),
        "regions_data": data_step("regions"),
        "region_models": Step(
            "experiment", "sites", "helpers.zech.regions:train_region_models", NETWORK, ("sites_data", "regions_data")
        ),
    },
    notebooks={
        "11_chexnet": Notebook("nih", ("chexnet",), folders=f"{DATA}:folders_predictions"),
        "12_generalization": Notebook(
            "sites", ("site_models", "region_models"), files=("data/published/audit_facts.csv",)
        ),
    },
)
