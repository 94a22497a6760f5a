"""The tables of `python -m workbench photographs`."""

from workbench.experiments.photographs import Plan, by_method, by_side, method_table, side_table
from workbench.reporting.tables import rich_table
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime

DECIMALS = {"LPIPS": 4, "whole minus it, LPIPS": 4, "s2": 4, "NFE": 1}


def print_photographs(cell: Evaluate, plan: Plan, runtime: Runtime) -> None:
    """Compute and print both tables.

    Raises:
        UserError: for too few photographs, or too small ones.
    """
    plan.check(cell)
    show = runtime.progress.show
    methods = by_method(cell, plan, runtime)
    title = f"{cell.degradation.kind}, {plan.num_images} photographs"
    show(rich_table(method_table(methods), title, DECIMALS))
    show(rich_table(side_table(by_side(cell, plan, runtime)), f"{title}: calibration by size", DECIMALS))
