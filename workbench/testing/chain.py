"""Mean and covariance of a discrete chain, in closed form and sampled by the engine.

For Gaussian latents, the exact estimate z0_hat is affine in z, and so is each reverse step; a chain that starts from a
Gaussian ends in one. Its mean and covariance follow a recursion for the *discrete* chain, which holds for any number of
steps, and not only in the continuous limit of many steps.
"""

import itertools
import math

import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.tensors import Latents
from workbench.diffusion import DDIM, Chain
from workbench.restoration import Batch, Engine
from workbench.solvers import Solver
from workbench.testing.gaussian import Gaussian
from workbench.testing.problem import LinearGaussian


def closed_chain(
    target: Gaussian, chain: Chain, eta: float, start: Gaussian | None = None, position: int = 0
) -> Gaussian:
    """The distribution in which a chain of reverse steps with the exact score of the diffused `target` ends.

    z0_hat = K z + k with K = sqrt(a) C (a C + (1 - a) I)^-1 and k = (I - sqrt(a) K) m, eps = (z - sqrt(a) z0_hat) /
    sqrt(1 - a), and DDIM's step (arXiv 2010.02502, eq. 12 and 16) turns them into z' = M z + c + sigma noise.

    Args:
        target: N(m, C); the prior for a chain without a measurement, and the posterior for a chain with the exact
            likelihood, because the posterior's score is the prior's score plus that of the likelihood.
        start: the initial distribution; N(0, I) by default.
        position: position of the first step in the chain.
    """
    state = Gaussian.standard(len(target.mean)) if start is None else start
    eye = torch.eye(len(target.mean)).double()
    for a, a_next in itertools.pairwise(chain.alpha_bar[position:].tolist()):
        sigma = eta * math.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
        direction = math.sqrt(1 - a_next - sigma**2)
        gain = math.sqrt(a) * torch.linalg.solve(a * target.covariance + (1 - a) * eye, target.covariance)
        of_z0_hat = math.sqrt(a_next) - direction * math.sqrt(a / (1 - a))
        slope = of_z0_hat * gain + direction / math.sqrt(1 - a) * eye
        state = state.moved(slope, of_z0_hat * (target.mean - math.sqrt(a) * gain @ target.mean), sigma**2)
    return state


def final_latents(
    problem: LinearGaussian, solver: Solver, sampler: DDIM, z: Latents, position: int = 0, seed: int = 0
) -> Tensor:
    """The final latents of the engine for these latents, all with the problem's measurement: (n, d) float64."""
    engine = Engine(problem.networks, solver, sampler, seed, num_slots=len(z))
    batch = Batch(problem.repeated(len(z)), z, torch.full((len(z),), position))
    ends = {record.image_id: z0 for end in engine.run([batch]) for record, z0 in zip(end.records, end.z, strict=True)}
    return torch.stack([ends[key] for key in range(len(z))]).flatten(1).double()


def sampled_chain(
    problem: LinearGaussian, solver: Solver, sampler: DDIM, num_draws: int = 4096, seed: int = 0
) -> Tensor:
    """The final latents of the engine from pure noise: (num_draws, d) float64."""
    z = randomness.normal(torch.arange(num_draws), (seed, "start"), problem.latent_shape)
    return final_latents(problem, solver, sampler, z, seed=seed)
