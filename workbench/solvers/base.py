"""The base of all solvers: one step of reverse diffusion, conditioned on the measurement."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from workbench.autoencoders import Autoencoder
from workbench.core.config import UserError
from workbench.core.families import Member
from workbench.core.measurement import Measurement
from workbench.core.tensors import Images, Latents, Measurements, Scalars, Times, Variances
from workbench.degradations import Degradation
from workbench.diffusion import DDIM, Chain, Prior

Precision = Literal["float32", "bf16", "bf16-true", "fp16-true"]
"""Names as Lightning's: bf16 is mixed precision; -true has the prior's weights in it too."""
HALF = {"bf16": torch.bfloat16, "bf16-true": torch.bfloat16, "fp16-true": torch.float16}


def weights_type(precision: Precision) -> torch.dtype:
    """The type of the prior's weights."""
    return HALF[precision] if precision.endswith("-true") else torch.float32


LEAST_NOISE = 1e-3
"""Standard deviation on [0, 1] assumed for a measurement without noise, where a solver divides by it."""


@dataclass
class Networks:
    """The networks and the operator, with a count of each network's evaluations per image.

    Solvers call these and not the modules, so that no cost remains uncounted.

    Attributes:
        accounts: for each image of the batch, its evaluations by name: "prior", "decoder", "encoder", and each with
            "_grad" for evaluations with gradient, or "_backward" for a further backward pass through the same
            evaluation. None: evaluations are not counted.
        precision: bf16: torch.autocast for convolutions and matrix products of prior and autoencoder. bf16-true,
            fp16-true: the same for the autoencoder, while the prior's weights are themselves in half precision, and so
            is all that it computes. Latents, images, the operator and the reverse step stay float32.
        checkpointing: whether evaluations with gradient keep only the inputs of blocks, and compute activations again
            for it: less memory, one more evaluation.
    """

    autoencoder: Autoencoder
    prior: Prior
    degradation: Degradation
    accounts: Sequence[Counter[str]] | None = None
    precision: Precision = "float32"
    checkpointing: bool = False

    def charging(self, accounts: Sequence[Counter[str]] | None) -> Self:
        """The same networks for a batch of images with these accounts."""
        return replace(self, accounts=accounts)

    def predict(self, z: Latents, time: Times) -> tuple[Latents, Latents]:
        """The prior's (z0_hat, eps)."""
        self._count("prior", z, self.prior.calls)
        mixed = self._cast(z) if self.precision == "bf16" else nullcontext()
        with mixed:
            return self._evaluated(self.prior.network, self.prior.predict, z, time)

    def decode(self, z: Latents) -> Images:
        """D(z)."""
        self._count("decoder", z)
        with self._cast(z):
            return self._evaluated(self.autoencoder.model, self.autoencoder.decode, z).float()

    def measure(self, x: Images, measurement: Measurement) -> Measurements:
        """A(x), with the operator of the measurement."""
        return self.degradation.A(x, dict(measurement.params))

    def adjoint(self, y: Measurements, measurement: Measurement) -> Images:
        """A^T y, for a linear operator."""
        return self.degradation.A_adjoint(y, dict(measurement.params))

    def forward(self, z: Latents, measurement: Measurement) -> Measurements:
        """A(D(z)), with the operator of the measurement."""
        return self.measure(self.decode(z), measurement)

    def encode(self, x: Images) -> Latents:
        """E(x)."""
        self._count("encoder", x)
        with self._cast(x):
            return self._evaluated(self.autoencoder.model, self.autoencoder.encode, x).float()

    def _evaluated(self, model: Any, network: Callable[..., Any], argument: Tensor, *more: Any) -> Any:
        if not (self.checkpointing and argument.requires_grad and torch.is_grad_enabled()):
            return network(argument, *more)
        # AutoencoderTiny's encoder forgets to rescale its images when its blocks are checkpointed
        if not getattr(model, "_supports_gradient_checkpointing", False) or type(model).__name__ == "AutoencoderTiny":
            return checkpoint(network, argument, *more, use_reentrant=False)
        model.enable_gradient_checkpointing()  # block by block, which takes less memory than all at once
        try:
            return network(argument, *more)
        finally:
            model.disable_gradient_checkpointing()

    def count_backward(self, *names: str) -> None:
        """Count a further backward pass through the last evaluations of these networks.

        The first one is part of an evaluation with gradient.
        """
        for account in self.accounts or ():
            for name in names:
                account[f"{name}_backward"] += self.prior.calls if name == "prior" else 1

    def _cast(self, argument: Tensor) -> AbstractContextManager[Any]:
        dtype = HALF.get(self.precision)
        if dtype is None or (dtype == torch.float16 and self.autoencoder.overflows_in_half):
            return nullcontext()
        return torch.autocast(argument.device.type, dtype)

    def _count(self, name: str, argument: Tensor, times: int = 1) -> None:
        if self.accounts is None:
            return
        if len(self.accounts) != len(argument):
            raise ValueError(f"{len(argument)} images evaluated, {len(self.accounts)} accounts to charge")
        graded = argument.requires_grad and torch.is_grad_enabled()
        for account in self.accounts:
            account[f"{name}_grad" if graded else name] += times


@dataclass(frozen=True)
class Step:
    """One reverse step for a batch of images, each at its own noise level.

    Attributes:
        z: the current latents.
        position: position of each image in the chain, (batch,) int64 on the CPU.
        chain: the noise levels of all images.
        noise: standard normal, like z, from each image's own generator: for the sampler.
        measurement: the measurements of the same images.
        solver_noise: like `noise`, and independent of it; for solvers with `draws_noise`.
    """

    z: Latents
    position: Tensor
    chain: Chain
    noise: Latents
    measurement: Measurement
    networks: Networks
    sampler: DDIM
    solver_noise: Latents | None = None

    @property
    def time(self) -> Times:
        """Network time of each image, (batch,) float64 on the CPU."""
        return self.chain.time[self.position]

    @property
    def alpha_bar(self) -> Scalars:
        """Current a of each image, (batch,) float64 on the CPU."""
        return self.chain.alpha_bar[self.position]

    @property
    def alpha_bar_next(self) -> Scalars:
        """a' after the reverse step, (batch,) float64 on the CPU."""
        return self.chain.alpha_bar[self.position + 1]

    def reverse(self, z0_hat: Latents, eps: Latents) -> Latents:
        """The sampler's unconditional step with these estimates."""
        return self.sampler.step(z0_hat, eps, self.alpha_bar, self.alpha_bar_next, self.noise)

    def take(self, index: Tensor) -> "Step":
        """The step of the images at `index`, (n,) int64 on the CPU, charged to their accounts."""
        on_device = index.to(self.z.device)
        accounts = self.networks.accounts
        return replace(
            self,
            z=self.z[on_device],
            position=self.position[index],
            noise=self.noise[on_device],
            measurement=self.measurement.take(on_device),
            networks=self.networks.charging(None if accounts is None else [accounts[i] for i in index.tolist()]),
            solver_noise=None if self.solver_noise is None else self.solver_noise[on_device],
        )

    def residual(self, x0_hat: Images) -> Measurements:
        """y - A(x0_hat), zero where y was not observed, on the scale of [0, 1] images."""
        return self.measurement.residual(self.networks.measure(x0_hat, self.measurement))

    def residual_norm(self, z0_hat: Latents) -> Scalars:
        """||y - A(D(z0_hat))||_2 over the observed entries, per image, on the scale of [0, 1] images."""
        return norms(self.residual(self.networks.decode(z0_hat)))


def norms(values: Tensor) -> Scalars:
    """The Euclidean norm of each image's values, (batch,)."""
    return values.flatten(1).norm(dim=1)


def inner(u: Tensor, v: Tensor) -> Variances:
    """The inner product of each image's values, (batch, 1, 1, 1)."""
    return (u * v).flatten(1).sum(1).reshape(-1, 1, 1, 1)


class Solver(Member):
    """A rule for one reverse step. Stateless: everything that it needs is in the Step."""

    diffuses: ClassVar[bool] = True
    """Whether reverse diffusion runs at all."""
    guided: ClassVar[bool] = True
    """Whether gradients through the operator are needed."""
    linear_only: ClassVar[bool] = False
    """Whether the operator must be linear."""
    draws_noise: ClassVar[bool] = False
    """Whether a step needs its own noise besides the sampler's (`Step.solver_noise`)."""

    @abstractmethod
    def step(self, step: Step) -> Latents:
        """The latents at the next, lower noise level."""

    def check(self, degradation: Degradation) -> None:
        """Reject, before any expensive computation, an operator that the solver does not support."""
        if self.linear_only and not degradation.linear:
            raise UserError(
                f"solver {self.kind} needs a linear operator, but {degradation.kind} is not linear: use ldps"
            )


def middle_step(z: Latents, measurement: Measurement, networks: Networks, sampler: DDIM) -> Step:
    """A step from z in the middle of the chain, without added noise, used to time one step of any solver."""
    chain = sampler.chain(networks.prior.levels, z.shape[1:])
    position = torch.full((len(z),), len(chain) // 2)
    nothing = torch.zeros_like(z)
    return Step(z, position, chain, nothing, measurement, networks, sampler, solver_noise=nothing)


class Guided(Solver):
    """z <- z' - grad_z energy(z): the unconditional step z' from z, then down the gradient of a data term.

    Takes one evaluation of the prior and one backward pass through everything in the energy.
    """

    @abstractmethod
    def energy(self, step: Step, z: Latents, z0_hat: Latents) -> Scalars:
        """The energy that guidance lowers, per image: a function of z, directly or through the prior's z0_hat(z)."""

    def step(self, step: Step) -> Latents:
        with torch.enable_grad():
            z = step.z.detach().requires_grad_(True)
            z0_hat, eps = step.networks.predict(z, step.time)
            energy = self.energy(step, z, z0_hat)
            if energy.shape != (len(z),):  # a mean over images would divide each gradient by the batch size
                raise UserError(
                    f"the energy of solver {self.kind} must be one number per image, {(len(z),)}, got "
                    f"{tuple(energy.shape)}: use workbench.solvers.base.norms"
                )
            # the sum over images keeps their gradients separate
            (gradient,) = torch.autograd.grad(energy.sum(), z)
        return step.reverse(z0_hat.detach(), eps.detach()) - gradient
