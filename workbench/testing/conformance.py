"""What a solver must satisfy on the linear-Gaussian problem, and tables of the remaining gaps."""

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
"""Below this p-value, samples are considered not to be from the distribution."""


def check_chain(
    solver: Solver,
    problem: LinearGaussian,
    target: Gaussian | None = None,
    sampler: DDIM | None = None,
    num_draws: int = 4096,
    seed: int = 0,
) -> None:
    """Check that a solver in the engine, from pure noise, ends in the closed-form distribution of its discrete chain.

    Args:
        target: the distribution whose score the chain follows: the prior for a solver without guidance (the default),
            the posterior for one with the exact likelihood.
        sampler: the chain and the reverse step; by default 20 steps of DDIM with eta = 0.5.

    Raises:
        AssertionError: if the mean or covariance of the samples are improbable, p below SIGNIFICANCE
            (`Gaussian.agreement`).
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
    """The exact gap of the discrete chain to the prior and to the posterior, by number of steps: one row per chain.

    The gap in the mean is that of the start, N(0, I), to the diffused target; it does not depend on the steps.
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
    """The gap of solvers in the engine to the exact posterior: one row per solver and number of DDIM steps (eta 0).

    For each guided solver, a second row with `likelihood` "exact" shows the gap due to the sampler alone. Samples of
    the posterior itself show the gap due to the finite number of samples.

    Args:
        solvers: by default all built-in solvers that diffuse and use the operator, with their default settings.
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
