from helpers.carr.keys import CarrKeys
from helpers.run.steps import PaperStudy

STUDY = PaperStudy("carr", CarrKeys)
