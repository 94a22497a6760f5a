"""`python -m workbench.testing`: how close chains and solvers come to what is known in closed form."""

from workbench.testing.conformance import conformance_table, step_table


def main() -> None:
    """Print the tables."""
    steps = step_table().pivot(index=["target", "eta"], columns="num_steps", values="covariance_gap")
    print("Gap of the discrete chain's covariance to its target's, by number of steps (exact):\n")
    print(steps.to_string(float_format="{:.3f}".format))
    print("\nGap of each solver to the exact posterior:\n")
    print(conformance_table().to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
