"""The house keeps its rules: imports go one way, no wing knows another, the core knows no paper, budgets hold."""

import ast
import json
import subprocess
import sys

import pytest

from helpers.run.cache import _imports, _modules, imports_of, module_file
from helpers.run.paths import ROOT
from helpers.run.steps import PAPERS, ROOMS, all_notebooks, all_steps, notebook_names, studies

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "helpers").rglob("*.py")
)
FLOOR = {"run": 0, "metrics": 1, "data": 2, "phantoms": 3, "model": 3, "explain": 4, "plots": 4, "audit": 5}
FLOOR |= dict.fromkeys(PAPERS, 5) | {"runner": 6, "study": 7, "__main__": 8, "": 9}


def room(module: str) -> str:
    return (module.split(".") + [""])[1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    for other in imports_of(module):
        allowed = room(other) == room(module) or FLOOR[room(other)] < FLOOR[room(module)]
        assert allowed, f"{module} imports {other}"


def test_there_is_no_import_cycle_also_none_within_functions():
    waiting = {module: set(imports_of(module)) - {module} for module in MODULES}
    while free := [module for module, others in waiting.items() if not others & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting, f"these import each other: {sorted(waiting)}"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) not in (*PAPERS, "audit", "__main__")])
def test_the_core_names_no_wing(module):
    text = module_file(module).read_text(encoding="utf-8")
    assert not [paper for paper in PAPERS if f"helpers.{paper}" in text]


def test_every_file_of_helpers_is_reached_from_a_notebook_a_step_or_the_command_line():
    reached, waiting = set(), {"helpers.__main__", "helpers.data.scan", *(f"helpers.{room}" for room in ROOMS)}
    waiting |= {name.split(":")[0] for step in all_steps().values() for name in (step.maker,) if name}
    waiting |= {data.module for study in studies().values() for data in study.data.values()}
    waiting |= {f"helpers.run.{name}" for name in ("workflow", "notebooks", "report", "compare")}  # named in __main__
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        waiting |= _modules(_imports(ast.parse(code)))
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting |= imports_of(name)
    packages = {name for name in MODULES if module_file(name).name == "__init__.py"}
    assert set(MODULES) - reached - packages == set()


def test_every_notebook_is_declared_by_a_study():
    assert set(all_notebooks()) == set(notebook_names())


def test_functions_are_short():
    long = []
    for module in MODULES:
        for node in ast.walk(ast.parse(module_file(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                long += [f"{module}.{node.name}: {length} lines"] if length > 40 else []
    assert not long


def test_the_budgets_hold():
    done = subprocess.run([sys.executable, ROOT / "tools/count_code.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
