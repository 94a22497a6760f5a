"""Conformance tests: problems with closed-form solutions, for authors of new family members.

To test a new solver, in a test or a notebook:

    problem = linear_gaussian()
    check_chain(MySolver(guidance_scale=0.0), problem)              # unguided, it samples like the sampler
    check_chain(with_exact_likelihood(MySolver(), problem), problem, problem.posterior)     # if it is Guided
    conformance_table([MySolver()], problem)                        # its approximation: the gap to the posterior

For a new linear operator: `linear_gaussian(MyOperator(), severity=0.7)`. `python -m workbench.testing` prints the
tables.
"""

from workbench.testing.chain import closed_chain, final_latents, sampled_chain
from workbench.testing.conformance import check_chain, conformance_table, step_table
from workbench.testing.gaussian import Agreement, Gap, Gaussian
from workbench.testing.likelihood import with_exact_likelihood
from workbench.testing.linear import LinearAutoencoder, gaussian_prior, latent_diffusion_levels
from workbench.testing.problem import LinearGaussian, affine, linear_gaussian

__all__ = [
    "Agreement",
    "Gap",
    "Gaussian",
    "LinearAutoencoder",
    "LinearGaussian",
    "affine",
    "check_chain",
    "closed_chain",
    "conformance_table",
    "final_latents",
    "gaussian_prior",
    "latent_diffusion_levels",
    "linear_gaussian",
    "sampled_chain",
    "step_table",
    "with_exact_likelihood",
]
