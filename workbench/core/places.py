"""Where data and results are stored, for notebooks in any folder as well as for the command line."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
"""The clone that the package is used from."""


def place(variable: str, name: str) -> Path:
    """The folder named by the environment variable, else ./`name` if it exists, else the one in the clone.

    If the package is not used from a clone, the default is ./`name`.
    """
    here = Path(name)
    if given := os.environ.get(variable):
        return at_home(given)
    return here if here.is_dir() or not (CHECKOUT / "pyproject.toml").is_file() else CHECKOUT / name


def runs_root() -> Path:
    """The runs folder: $WORKBENCH_RUNS, else ./runs, else that of the clone."""
    return place("WORKBENCH_RUNS", "runs")


def data_root() -> Path:
    """The folder for data sets: $WORKBENCH_DATA, else ./data, else that of the clone."""
    return place("WORKBENCH_DATA", "data")


def at_home(path: str | Path) -> Path:
    """The path with a leading ~ expanded: shells leave it as it is in --name=~/x."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: a folder may be called ~x
        return Path(path)
