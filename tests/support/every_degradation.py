"""One degradation of every kind, for tests that go through the family."""

from typing import cast

from workbench.config import members
from workbench.degradations import AnyDegradation, DeepinvPhysics, Degradation


def degradation(member: type) -> Degradation:
    """The member as it comes; a user's physics with a factory of the tests'."""
    if member is DeepinvPhysics:
        return DeepinvPhysics(factory="deepinv_factories:defocus", claims_linear=True)
    return cast(Degradation, member())


EVERY = [degradation(member) for member in members(AnyDegradation)]
