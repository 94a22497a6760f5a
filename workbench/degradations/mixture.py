"""A random choice among the other degradations, to train on all of them."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from workbench.core import randomness
from workbench.core.families import Open
from workbench.core.measurement import MEMBER
from workbench.core.tensors import Ids, Images, Measurements, Scalars, Severities
from workbench.degradations.base import Degradation, Params
from workbench.degradations.gaussian_blur import GaussianBlur
from workbench.degradations.gaussian_noise import GaussianNoise
from workbench.degradations.given import Given, on_behalf_of
from workbench.degradations.jpeg import JPEG
from workbench.degradations.motion_blur_crf import MotionBlurCRF
from workbench.degradations.random_inpainting import RandomInpainting
from workbench.degradations.super_resolution import SuperResolution

Component = Annotated[
    GaussianBlur | RandomInpainting | MotionBlurCRF | GaussianNoise | SuperResolution | JPEG,
    Field(discriminator="kind"),
    Open(Degradation),
]


class Mixture(Degradation):
    """Each image is degraded by one of `members`, drawn uniformly by (seed, id), at the image's severity.

    `noise_std` replaces the noise of every member.
    """

    kind: Literal["mixture"] = "mixture"
    members: tuple[Component, ...] = Field(
        (GaussianBlur(), RandomInpainting(), MotionBlurCRF(), GaussianNoise(), SuperResolution(), JPEG()),
        min_length=1,
        description="the degradations to draw from; each kind once",
    )

    linear: ClassVar[bool] = False
    identity_db: ClassVar[float] = 20.0
    surrogate_gradient: ClassVar[bool] = True
    draws_parameters: ClassVar[bool] = True
    severity_range: ClassVar[str] = "as for the member drawn for an image"

    @property
    def label(self) -> str:
        """`mixture`, or `all but KIND` if one of its default kinds is left out; else two kinds, or their number."""
        kinds = [member.kind for member in self.members]
        known = [member.kind for member in type(self).model_fields["members"].default]
        left_out = [kind for kind in known if kind not in kinds]
        if set(kinds) <= set(known) and len(left_out) <= 1:
            return f"all but {left_out[0]}" if left_out else self.kind
        return " + ".join(kinds) if len(kinds) <= 2 else f"mixture of {len(kinds)}"

    @field_validator("members")
    @classmethod
    def _one_of_a_kind(cls, members: tuple[Degradation, ...], info: ValidationInfo) -> tuple[Degradation, ...]:
        kinds = [member.kind for member in members]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"each kind may occur only once in a mixture, got {', '.join(kinds)}")
        # absent if noise_std itself is invalid
        noise_std = info.data.get("noise_std")
        return members if noise_std is None else tuple(member.replace(noise_std=noise_std) for member in members)

    def parameters(self, severity: Severities, ids: Ids, seed: int, image_shape: tuple[int, int, int]) -> Params:
        """`member` (batch,) int64, the position in `members`; and every member's parameters as `KIND.NAME`.

        A member's parameters are zero for the images of other members, so that all batches have the same tensors and
        can be concatenated.
        """
        chosen = (randomness.uniform(ids, (seed, "member")) * len(self.members)).long().to(severity.device)
        params: dict[str, Tensor] = {MEMBER: chosen}
        for position, member in enumerate(self.members):
            for name, value in member.parameters(severity, ids, seed, image_shape).items():
                params[f"{member.kind}.{name}"] = value * _per_image(chosen == position, value)
        return params

    def A(self, x: Images, params: Params) -> Measurements:
        """Apply each image's own member."""
        return self._each(x, params, lambda member, x, own: member.A(x, own))

    def view(self, y: Measurements, params: Params) -> Images:
        """`view` of each image's own member."""

        def view(member: Degradation, y: Tensor, own: Params) -> Tensor:
            seen = member.view(y, own)
            return y if seen is None else seen

        return self._each(y, params, view)

    def rounds(self, params: Params) -> Tensor:
        """`surrogate_gradient` of each image's own member."""
        chosen = params[MEMBER]
        return torch.tensor([member.surrogate_gradient for member in self.members], device=chosen.device)[chosen]

    def _each(self, images: Tensor, params: Params, change: Callable[[Degradation, Tensor, Params], Tensor]) -> Tensor:
        """Apply `change` of each member to the images that drew it, and keep the images' order."""
        groups, parts = [], []
        for position, member in enumerate(self.members):
            group = (params[MEMBER] == position).nonzero()[:, 0]
            if len(group):
                own = {name: value[group] for name, value in _own(params, member).items()}
                groups.append(group)
                parts.append(change(member, images[group], own))
        return torch.cat(parts)[torch.cat(groups).argsort()]

    def noise_level(self, severity: Severities, params: Params | None = None) -> Scalars:
        """The noise level of each image's own member.

        Raises:
            ValueError: without `params`, which contain the members drawn.
        """
        if params is None:
            raise ValueError("the noise of a mixture depends on the images' members: pass params")
        levels = torch.stack([member.noise_level(severity) for member in self.members])
        return levels.gather(0, params[MEMBER][None])[0]

    def observed(self, params: Params) -> Tensor | None:
        """`observed` of each image's own member, 1 everywhere for members that observe everything."""
        result: Tensor | None = None
        for position, member in enumerate(self.members):
            observed = member.observed(_own(params, member))
            if observed is not None:
                elsewhere = torch.ones_like(observed) if result is None else result
                result = torch.where(_per_image(params[MEMBER] == position, observed), observed, elsewhere)
        return result

    def given_parameters(self, params: Params, image_shape: tuple[int, int, int]) -> tuple[Params, list[str]]:
        """The images' members, and every member's parameters by its own rules for its own images."""
        prefixes = tuple(f"{member.kind}." for member in self.members)
        of_members = [name for name in params if name.startswith(prefixes)]
        given = Given(self.kind, params, ("member", *of_members), image_shape)
        last = len(self.members) - 1
        kinds = ", ".join(f"{position} {member.kind}" for position, member in enumerate(self.members))
        chosen = given.numbers("member", low=0, high=last, whole=True, meaning=kinds).long()
        taken = {MEMBER: chosen}
        for position, member in enumerate(self.members):
            taken |= given.part(prefixes[position], member.given_parameters, (chosen == position).nonzero()[:, 0])
        return given.taken(taken)

    def given_values(self, y: Measurements, params: Params, observed: Tensor | None) -> tuple[Measurements, list[str]]:
        """`given_values` of each image's own member."""
        y, lines = y.clone(), []
        for position, member in enumerate(self.members):
            group = (params[MEMBER] == position).nonzero()[:, 0]
            if len(group):
                own = {name: value[group] for name, value in _own(params, member).items()}
                with on_behalf_of(member.kind, group):
                    y[group], said = member.given_values(y[group], own, None if observed is None else observed[group])
                lines += [f"{member.kind}: {line}" for line in said]
        return y, lines

    def describe(self, severity: float) -> str:
        """Every member's level."""
        return "; ".join(f"{member.kind} {member.describe(severity)}" for member in self.members)


def _own(params: Params, member: Degradation) -> Params:
    """A member's parameters by their own names."""
    prefix = f"{member.kind}."
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def _per_image(flag: Tensor, like: Tensor) -> Tensor:
    return flag.reshape(-1, *[1] * (like.ndim - 1))
