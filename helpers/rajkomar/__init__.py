from helpers.rajkomar.keys import RajkomarKeys
from helpers.run.steps import PaperStudy

STUDY = PaperStudy("rajkomar", RajkomarKeys)
