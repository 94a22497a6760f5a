"""Which severity encoder to restore with."""

from enum import StrEnum


class EncoderChoice(StrEnum):
    """The source of the severity estimate in a restoration.

    matched: an encoder trained for this operator; universal: the pretrained one; none: only the measurement's
    residual.
    """

    MATCHED = "matched"
    UNIVERSAL = "universal"
    NONE = "none"
