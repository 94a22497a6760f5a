"""The available studies, built-in and the user's: names, modules and questions, read without importing them.

A built-in study is studies/NAME.py, or a package studies/NAME/ whose study.py defines it; names with a leading
underscore are excluded. A user's study is any file or module, named by its absolute path or dotted module name. The
definition is an object `study`; the docstring of its module is the question.
"""

import ast
import hashlib
import re
from pathlib import Path

from workbench.core.places import at_home

STUDIES = Path(__file__).parents[2] / "studies"


def study_names() -> list[str]:
    """The names of the built-in studies."""
    return sorted(_files())


def questions() -> dict[str, str]:
    """The first line of each study's docstring, by name."""
    return {name: _docstring(path).split("\n")[0] for name, path in sorted(_files().items())}


def address(name: str) -> str:
    """The name of a study from the user's input: a path is made absolute, so that it is valid in every folder."""
    return str(at_home(name).resolve()) if name.endswith(".py") else name


def is_path(name: str) -> bool:
    """Whether a study is named by its file."""
    return name.endswith(".py")


def is_users(name: str) -> bool:
    """Whether a name has the form of a user's study."""
    return "." in name


def module_of(name: str) -> str:
    """The module that defines a study; for a file in a package, its name within the package."""
    if is_path(name):
        path = Path(name)
        return ".".join([*(folder.name for folder in _packages(path)), path.stem])
    if is_users(name):
        return name
    return f"studies.{name}.study" if (STUDIES / name / "study.py").is_file() else f"studies.{name}"


def import_folder(name: str) -> Path:
    """The folder from which the module of a study's file is imported."""
    path = Path(name)
    return path.parents[len(_packages(path))]


def folder_name(name: str) -> str:
    """The name of its results folder, which distinguishes files of the same name in different folders."""
    if not is_path(name):
        return re.sub(r"[^\w.-]", "-", name)
    stem = module_of(name).removesuffix(".study")
    return re.sub(r"[^\w.-]", "-", f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:6]}")


def _packages(path: Path) -> list[Path]:
    """The packages that contain a module, the outermost first."""
    found: list[Path] = []
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        found.insert(0, folder)
    return found


def _files() -> dict[str, Path]:
    """The file that defines each study, by the study's name."""
    files = {path.stem: path for path in STUDIES.glob("*.py")}
    files |= {path.parent.name: path for path in STUDIES.glob("*/study.py")}
    return {name: path for name, path in files.items() if not name.startswith("_")}


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""
