"""The reference of settings: nothing is left out, and each has a meaning."""

from typing import Any

from workbench.autoencoders import AnyAutoencoder
from workbench.core.config import kind_of, members
from workbench.docs.settings import Family, families, undescribed
from workbench.severity.start import AnyStart
from workbench.solvers import AnySolver
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.measure.measure_cost import MeasureCost

FOUND = families(Evaluate, MeasureCalibration, MeasureCost)


def family(name: str) -> Family:
    (found,) = [one for one in FOUND if one.name == name]
    return found


def test_every_kind_of_a_family_is_listed_once() -> None:
    unions: dict[str, Any] = {"solver": AnySolver, "start": AnyStart, "autoencoder": AnyAutoencoder}
    for name, union in unions.items():
        assert [one.kind for one in family(name).members] == [kind_of(kind) for kind in members(union)]


def test_every_setting_has_a_meaning() -> None:
    assert not list(undescribed(FOUND)), "give the field a description"


def test_a_setting_says_type_range_and_default() -> None:
    (ldps,) = [one for one in family("solver").members if one.kind == "ldps"]
    (scale,) = ldps.settings
    assert (scale.name, scale.default) == ("guidance_scale", "2")
    assert scale.type == "float, at least 0 and at most 1000000"
    (cell, *_) = family("cell").members
    assert {one.name for one in cell.settings} == set(Evaluate.model_fields)
