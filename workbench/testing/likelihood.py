"""The exact likelihood in place of a solver's approximation."""

from typing import Any

import torch
from torch import Tensor

from workbench.core.tensors import Latents, Scalars
from workbench.solvers import Guided, Step
from workbench.testing.problem import LinearGaussian


def with_exact_likelihood(solver: Guided, problem: LinearGaussian) -> Guided:
    """The same solver with energy(z) = -weight log p(y | z_t) instead of its own.

    Its chain then follows the score of the diffused posterior. The remaining gap to the posterior is due to the
    sampler; any additional gap of a solver is due to its approximation.
    """

    def energy(_: Guided, step: Step, z: Latents, z0_hat: Latents) -> Scalars:
        return -likelihood_weight(step).to(z) * log_likelihood(problem, step, z0_hat)

    members: dict[str, Any] = {"energy": energy, "__module__": __name__, "__doc__": with_exact_likelihood.__doc__}
    exact = type(f"Exact{type(solver).__name__}", (type(solver),), members)
    return exact(**solver.model_dump())


def likelihood_weight(step: Step) -> Scalars:
    """The multiple of a score s by which the sampler's step moves if s is added to the prior's score, (batch,).

    With a = alpha_bar, z0_hat = (z + (1 - a) score) / sqrt(a) and eps = -sqrt(1 - a) score (Tweedie): adding s adds
    (1 - a) / sqrt(a) s to z0_hat and -sqrt(1 - a) s to eps, and every sampler's step is linear in both.
    """
    a, a_next = step.alpha_bar, step.alpha_bar_next
    in_z0_hat, in_eps = (c.reshape(-1, 1, 1, 1) for c in ((1 - a) / a.sqrt(), -(1 - a).sqrt()))
    return step.sampler.step(in_z0_hat, in_eps, a, a_next, torch.zeros_like(in_eps)).flatten()


def log_likelihood(problem: LinearGaussian, step: Step, z0_hat: Latents) -> Scalars:
    """log p(y | z_t) up to a constant, per image, as a function of z_t through z0_hat = E[z0 | z_t].

    z0 given z_t is N(z0_hat, P_t) with P_t = C - a C (a C + (1 - a) I)^-1 C, so y given z_t is
    N(A(D(z0_hat)), H P_t H^T + noise_std^2 I), with H the matrix of A(D(.)).
    """
    matrix, offset = problem.forward
    residual = problem.y - offset - z0_hat.flatten(1).double() @ matrix.T
    levels, level_of = step.alpha_bar.unique(return_inverse=True)
    solved = torch.stack([_precision(problem, matrix, float(a)) for a in levels])[level_of]
    return -0.5 * torch.einsum("bi,bij,bj->b", residual, solved, residual).to(z0_hat)


def _precision(problem: LinearGaussian, matrix: Tensor, a: float) -> Tensor:
    """The inverse covariance of y given z_t."""
    eye = torch.eye(problem.size).double()
    given_z_t = problem.latents.given(a**0.5 * eye, torch.zeros(problem.size).double(), 1 - a)
    return torch.linalg.inv(matrix @ given_z_t.covariance @ matrix.T + problem.noise_variance * torch.eye(len(matrix)))
