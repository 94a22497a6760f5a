"""What may be restored with."""

import pytest

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.experiments.restore import restoring_cell
from workbench.solvers import LDPS, MMPS


@pytest.mark.parametrize("encoder", [EncoderChoice.UNIVERSAL, EncoderChoice.MATCHED])
def test_a_control_of_studies_is_refused_before_compute(encoder: EncoderChoice) -> None:
    with pytest.raises(UserError, match="cannot be used to restore"):
        restoring_cell("gaussian_blur", encoder, "smoke", {"start.kind": "equal_cost"})


def test_few_steps_restore_unless_the_user_chooses() -> None:
    cell = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {})
    assert (cell.solver, cell.sampler.num_steps) == (MMPS(), 125)
    full = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"start.kind": "full"})
    assert (full.solver, full.sampler.num_steps) == (LDPS(), 500), "few steps are for starts near the end"
    scaled = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"solver.guidance_scale": 0.5})
    assert (scaled.solver, scaled.sampler.num_steps) == (LDPS(guidance_scale=0.5), 500)
    sampled = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"sampler.num_steps": 50})
    assert (sampled.solver, sampled.sampler.num_steps) == (LDPS(), 50)
