from helpers.run.steps import PaperStudy
from helpers.zech.keys import ZechKeys

STUDY = PaperStudy("zech", ZechKeys)
