"""Carr 2020: COVID-19 and rare retinal disease through a bridge data set, explained with SHAP (notebooks 09 and 10)."""

from helpers.carr.keys import CarrKeys
from helpers.run.steps import DataSet, Notebook, PaperStudy, Step, data_step

DATA = "helpers.carr.data"
BRIDGE = ("backbone", "weights", "bridge_", "head_standardise")

STUDY = PaperStudy(
    paper="carr2020",
    title="Carr et al. 2020, From retinal disease to COVID-19, deep learning CNNs for biomedical image classification",
    keys=CarrKeys,
    data={
        "covid": DataSet(DATA, ("seed", "split", "covid_source", "phantom_covid_", "bridge_covid_subjects")),
        "octid": DataSet(DATA, ("seed", "split", "octid_source", "phantom_octid_", "bridge_octid_images")),
    },
    steps={
        "covid_data": data_step("covid"),
        "covid_bridge": Step(
            "experiment", "covid", "helpers.carr.controls:train_covid_bridge", BRIDGE, ("covid_data", "xray_data")
        ),
        "octid_data": data_step("octid"),
        "retinal_bridge": Step(
            "experiment", "octid", "helpers.carr.models:train_retinal_bridge", BRIDGE, ("octid_data", "oct_data")
        ),
    },
    notebooks={
        "09_covid_bridge": Notebook("covid", ("covid_bridge",)),
        "10_retinal_bridge": Notebook("octid", ("retinal_bridge",)),
    },
)
