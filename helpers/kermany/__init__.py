"""Kermany 2018: retinal OCT and paediatric pneumonia by transfer learning (notebooks 00 to 07)."""

from helpers.kermany.keys import KermanyKeys
from helpers.run.steps import FEATURES_KEYS, DataSet, Notebook, PaperStudy, Step, data_step, features_step

DATA = "helpers.kermany.data"
MODELS = "helpers.kermany.models"
SPLIT = ("seed", "split", "validation_fraction")
HEAD = ("seed", "head_")
HEADS = {
    "oct": ("multiclass", "limited", "cnv_normal", "dme_normal", "drusen_normal"),
    "xray": ("pneumonia", "bacteria_virus", "referral"),
}

STUDY = PaperStudy(
    paper="kermany2018",
    title="Kermany et al. 2018, Identifying medical diagnoses and treatable diseases by image-based deep learning",
    keys=KermanyKeys,
    data={
        "oct": DataSet(DATA, ("oct_source", "phantom_oct_", *SPLIT)),
        "xray": DataSet(DATA, ("xray_source", "phantom_xray_", *SPLIT)),
    },
    steps={
        "oct_data": data_step("oct"),
        "oct_features": features_step("oct"),
        **{
            name: Step("experiment", "oct", f"{MODELS}:train_named_head", (*HEAD, "limited_"), ("oct_features",))
            for name in HEADS["oct"]
        },
        "learning_curve": Step(
            "experiment", "oct", f"{MODELS}:train_learning_curve", (*HEAD, *FEATURES_KEYS, "curve_"), ("oct_features",)
        ),
        "xray_data": data_step("xray"),
        "xray_features": features_step("xray"),
        **{
            name: Step("experiment", "xray", f"{MODELS}:train_named_head", HEAD, ("xray_features",))
            for name in HEADS["xray"]
        },
        "referral_finetuned": Step(
            "experiment",
            "xray",
            f"{MODELS}:finetune_referral_networks",
            ("backbone", "weights", "finetune_", *HEAD),
            ("xray_data",),
        ),
    },
    notebooks={
        "00_data": Notebook("oct", ("oct_data",)),
        "01_training_curves": Notebook("oct", ("multiclass", "cnv_normal", "dme_normal", "drusen_normal")),
        "02_multiclass_roc": Notebook("oct", ("multiclass", "limited")),
        "03_binary_roc": Notebook("oct", ("cnv_normal", "dme_normal", "drusen_normal")),
        "04_limited_data": Notebook("oct", ("multiclass", "limited", "learning_curve")),
        "05_expert_comparison": Notebook("oct", ("multiclass", "limited")),
        "06_occlusion": Notebook("oct", ("multiclass",)),
        "07_pneumonia": Notebook("xray", ("pneumonia", "bacteria_virus", "referral", "referral_finetuned")),
    },
)
