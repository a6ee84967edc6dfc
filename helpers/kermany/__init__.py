from helpers.kermany.keys import KermanyKeys
from helpers.run.steps import PaperStudy

STUDY = PaperStudy("kermany", KermanyKeys)
