"""What the notebooks share. Data flows one way, and no module imports from one to its right:

source > catalogue > split > pixels > bottlenecks > head > scores > statistics > figure, table, claim > report

Nothing heavy is imported here: `import helpers` takes milliseconds, TensorFlow loads where it is used.
"""
