"""A static site from a finished run: `make site RUN=<run>`, which fills build/site/.

Made with the templates of this folder and of the report, which need nothing that the pinned environment lacks. Jupyter
Book and MyST would add some 60 packages and Node.js to it, and would not link figures to tables and commits.
"""
