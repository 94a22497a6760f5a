"""What may be restored with."""

import pytest

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.experiments.restore import restoring_cell


@pytest.mark.parametrize("encoder", [EncoderChoice.UNIVERSAL, EncoderChoice.MATCHED])
def test_a_control_of_studies_is_refused_before_compute(encoder: EncoderChoice) -> None:
    with pytest.raises(UserError, match="cannot be used to restore"):
        restoring_cell("gaussian_blur", encoder, "smoke", {"start.kind": "equal_cost"})
