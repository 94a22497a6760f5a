"""`python -m workbench.testing [MODULE:SOLVER ...]`: how close chains and solvers come to the exact solution."""

import sys
from collections.abc import Sequence

from workbench.core.config import UserError
from workbench.core.families import allow_named, member
from workbench.solvers import Solver
from workbench.testing.conformance import conformance_table, step_table


def main(names: Sequence[str]) -> None:
    """Print the tables, for the user's solvers with their default settings if any are named."""
    try:
        solvers = [_solver(name) for name in names] or None
    except UserError as error:
        sys.exit(f"error: {error}")
    steps = step_table().pivot(index=["target", "eta"], columns="num_steps", values="covariance_gap")
    print("Gap of the discrete chain's covariance to its target's, by number of steps (exact):\n")
    print(steps.to_string(float_format="{:.3f}".format))
    print("\nGap of each solver to the exact posterior:\n")
    print(conformance_table(solvers).to_string(index=False, float_format="{:.3f}".format))


def _solver(name: str) -> Solver:
    allow_named({"kind": name})
    return member(name, Solver).parse({"kind": name})  # type: ignore[type-abstract]


if __name__ == "__main__":
    main(sys.argv[1:])
