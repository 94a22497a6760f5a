"""The studies that there are: names, modules and questions, read without importing any of them.

A study is studies/NAME.py, or a package studies/NAME/ whose study.py defines it. The definition is an object `study`;
the docstring of its module is the question, and what begins with an underscore is no study.
"""

import ast
from pathlib import Path

STUDIES = Path(__file__).parents[1] / "studies"


def study_names() -> list[str]:
    """The studies that there are."""
    return sorted(_files())


def questions() -> dict[str, str]:
    """The first line of each study's docstring, by its name."""
    return {name: _docstring(path).split("\n")[0] for name, path in sorted(_files().items())}


def module_of(name: str) -> str:
    """The module that defines a study of ours."""
    return f"studies.{name}.study" if (STUDIES / name / "study.py").is_file() else f"studies.{name}"


def _files() -> dict[str, Path]:
    """The file that defines each study, by the study's name."""
    files = {path.stem: path for path in STUDIES.glob("*.py")}
    files |= {path.parent.name: path for path in STUDIES.glob("*/study.py")}
    return {name: path for name, path in files.items() if not name.startswith("_")}


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""
