"""Which severity encoder restores."""

from enum import StrEnum


class EncoderChoice(StrEnum):
    """Where the severity estimate of a restoration comes from.

    matched: an encoder trained here for the very operator; universal: the one that ships; none: the measurement's
    residual alone.
    """

    MATCHED = "matched"
    UNIVERSAL = "universal"
    NONE = "none"
