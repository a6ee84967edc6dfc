"""What the notebooks share. Data flows one way, and no module imports from one to its right:

source > catalogue > split > pixels > bottlenecks > head > scores > statistics > figure, table, claim > report

Nothing heavy is imported here: `import helpers` takes milliseconds, TensorFlow loads where it is used.
"""

import logging
import os
import warnings

# Libraries' start-up chatter hides what matters, in a notebook above all.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
warnings.filterwarnings("ignore", message="IProgress not found")
