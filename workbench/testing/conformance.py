"""What a solver must meet on the linear-Gaussian problem, and tables of how close it comes."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple

import pandas as pd
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import members
from workbench.diffusion import DDIM
from workbench.solvers import AnySolver, Guided, Solver
from workbench.testing.chain import closed_chain, sampled_chain
from workbench.testing.gaussian import Gaussian
from workbench.testing.likelihood import with_exact_likelihood
from workbench.testing.problem import LinearGaussian, linear_gaussian

SIGNIFICANCE = 1e-3
"""Below this p-value, draws are not those of the distribution."""


def check_chain(
    solver: Solver,
    problem: LinearGaussian,
    target: Gaussian | None = None,
    sampler: DDIM | None = None,
    num_draws: int = 4096,
    seed: int = 0,
) -> None:
    """Whether a solver in the engine, from pure noise, ends as the closed recursion of its discrete chain says.

    Args:
        target: the distribution whose score the chain follows: the prior's for a solver without guidance (the default),
            the posterior's for one with the exact likelihood.
        sampler: the chain and the reverse step; 20 steps of DDIM with eta = 0.5 unless given.

    Raises:
        AssertionError: if mean or covariance of the draws are improbable, p below SIGNIFICANCE (`Gaussian.agreement`).
    """
    sampler = DDIM(num_steps=20, eta=0.5) if sampler is None else sampler
    target = problem.latents if target is None else target
    expected = closed_chain(target, problem.chain(sampler), sampler.eta)
    draws = sampled_chain(problem, solver, sampler, num_draws, seed)
    found = expected.agreement(draws)
    if min(found.mean, found.covariance) < SIGNIFICANCE:
        gap = Gaussian.of(draws).gap(expected)
        raise AssertionError(f"{solver!r} does not end as its chain should: {found}, {gap} over {num_draws} draws")


def step_table(
    problem: LinearGaussian | None = None,
    num_steps: Sequence[int] = (10, 30, 100, 300, 1000),
    etas: Sequence[float] = (0.0, 0.5, 1.0),
) -> pd.DataFrame:
    """Steps against the gap of the discrete chain to the prior and to the posterior, exact: a row a chain.

    The gap in the mean is the start's, which is N(0, I) and not quite the diffused target; steps do not change it.
    """
    problem = linear_gaussian() if problem is None else problem
    rows = []
    for name, target in (("prior", problem.latents), ("posterior", problem.posterior)):
        for eta in etas:
            for steps in num_steps:
                end = closed_chain(target, problem.chain(DDIM(num_steps=steps)), eta)
                rows.append((name, eta, steps, *astuple(end.gap(target))))
    return pd.DataFrame(rows, columns=["target", "eta", "num_steps", "mean_gap", "covariance_gap"])


def conformance_table(
    solvers: Sequence[Solver] | None = None,
    problem: LinearGaussian | None = None,
    num_steps: Sequence[int] = (20, 100, 500),
    num_draws: int = 2048,
    seed: int = 0,
) -> pd.DataFrame:
    """How far solvers in the engine end from the exact posterior: a row a solver and number of DDIM steps (eta 0).

    Beside each guided solver stands its like with the exact likelihood, `likelihood` "exact", whose gap is the
    sampler's alone; beside all, draws of the posterior itself, whose gap is that of as many draws.

    Args:
        solvers: every solver of the workbench that diffuses and takes the operator, as it comes, unless given.
    """
    problem = linear_gaussian() if problem is None else problem
    solvers = list(_every_solver(problem)) if solvers is None else solvers
    draws = problem.posterior.draw(num_draws, randomness.generator(seed, "posterior"))
    rows: list[tuple[str, str, int, Tensor]] = [("posterior", "", 0, draws)]
    for solver in solvers:
        variants = {"own" if solver.guided else "none": solver}
        if isinstance(solver, Guided):
            variants["exact"] = with_exact_likelihood(solver, problem)
        for likelihood, variant in variants.items():
            for steps in num_steps:
                draws = sampled_chain(problem, variant, DDIM(num_steps=steps), num_draws, seed)
                rows.append((solver.kind, likelihood, steps, draws))
    return pd.DataFrame(
        [(*row, *astuple(Gaussian.of(draws).gap(problem.posterior))) for *row, draws in rows],
        columns=["solver", "likelihood", "num_steps", "mean_gap", "covariance_gap"],
    )


def _every_solver(problem: LinearGaussian) -> Iterator[Solver]:
    for member in members(AnySolver):
        solver = member()
        if isinstance(solver, Solver) and solver.diffuses:
            solver.check(problem.networks.degradation)
            yield solver
