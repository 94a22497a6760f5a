"""Members from outside, in one process; tests/test_outside.py has them from end to end."""

import importlib
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from users_folder import PROJECT, Outside

from workbench.autoencoders import Tiny
from workbench.core import families
from workbench.core.config import UserError, members, overrides_between
from workbench.degradations import GaussianBlur
from workbench.severity.recipe import SeverityRecipe
from workbench.solvers import LDPS, AnySolver
from workbench.stages.measure.evaluate import Evaluate
from workbench.testing import check_chain, linear_gaussian, with_exact_likelihood

SOLVER = {"solver.kind": "mine_parts:Gentle"}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """A user's folder that Python finds modules in, of which none is allowed yet."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(families, "_allowed", set())
    monkeypatch.delitem(sys.modules, "mine_parts", raising=False)
    importlib.invalidate_caches()
    yield Outside.make(tmp_path)
    sys.modules.pop("mine_parts", None)


def cell(outside: Outside, **fields: Any) -> Evaluate:
    families.allow("mine_parts")
    return Evaluate().replace({**SOLVER, **fields})


def test_a_class_enters_by_its_name(outside: Outside) -> None:
    found = cell(outside, **{"solver.weight": 0.25, "degradation.kind": "mine_parts:Darker", "degradation.least": 0.2})
    assert (found.solver.kind, found.solver.weight) == ("mine_parts:Gentle", 0.25)
    assert found.degradation.least == 0.2
    assert found.replace({"solver.kind": "ldps"}).solver == LDPS()
    assert found.replace({"start.kind": "mine_parts:Later", "start.timestep": 300}).start.timestep == 300
    assert found.replace({"start.variance": {"kind": "mine_parts:Doubled"}}).start.variance.kind == "mine_parts:Doubled"
    within = {"degradation.kind": "compose", "degradation.parts": [{"kind": "mine_parts:Darker"}, {"kind": "jpeg"}]}
    assert found.replace(within).degradation.parts[0].least == 0.5


def test_it_goes_through_json_overrides_and_pickle(outside: Outside) -> None:
    found = cell(outside, **{"solver.weight": 0.25})
    assert Evaluate.parse(found.model_dump(mode="json")) == found
    assert Evaluate.model_validate_json(found.model_dump_json()).identity == found.identity
    assert overrides_between(Evaluate(), found) == {**SOLVER, "solver.weight": 0.25}
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_instance_needs_no_name(outside: Outside) -> None:
    mine = importlib.import_module("mine_parts")
    assert Evaluate(solver=mine.Gentle(weight=0.25)).solver.weight == 0.25
    with pytest.raises(UserError, match=r"^solver: mine_parts:Darker is not a Solver"):
        Evaluate().replace({"solver": mine.Darker()})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"solver.weight": 2}, "solver.weight: input should be at least 0 and at most 1 (got 2)"),
        ({"solver.wait": 2}, "unknown field 'solver.wait'"),
        ({"solver.kind": "mine_parts:Darker"}, "is not a Solver: derive it from workbench.solvers.base.Solver"),
        ({"solver.kind": "mine_parts:NotOne"}, "is not a Solver"),
        ({"solver.kind": "mine_parts:Path"}, "is not a Solver"),
        ({"solver.kind": "mine_parts:Guided"}, "is incomplete: implement energy"),
        ({"solver.kind": "mine_parts:Gone"}, "mine_parts has no Gone"),
        ({"solver.kind": "mine_parts:"}, "is not of the form MODULE:NAME"),
        ({"solver.kind": "mine_ports:Gentle"}, "add --allow mine_ports"),
    ],
)
def test_what_is_wrong_is_one_line(overrides: dict[str, Any], message: str, outside: Outside) -> None:
    with pytest.raises(UserError) as refusal:
        cell(outside, **overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_source_is_in_the_identity(outside: Outside) -> None:
    before = cell(outside)
    assert set(before.canonical()["solver"]) == {"kind", "weight", "source"}
    sys.modules.pop("mine_parts")
    path = outside.folder / "mine_parts.py"
    path.write_text(path.read_text().replace("self.weight * norms", "2 * self.weight * norms"))
    importlib.invalidate_caches()
    assert cell(outside).identity != before.identity


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The modules that the README has as examples, in a folder where Python finds them."""
    text = (PROJECT / "workbench" / "README.md").read_text()
    examples = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", text, re.S))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(families, "_allowed", set(examples))
    for name, example in examples.items():
        (tmp_path / f"{name}.py").write_text(example)
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield set(examples)
    for name in examples:
        sys.modules.pop(name, None)


def test_the_readmes_solver_is_a_member(readme: set[str]) -> None:
    assert readme == {"mine", "networks"}
    solver = Evaluate().replace({"solver.kind": "mine:Gentle", "solver.weight": 0.25}).solver
    check_chain(with_exact_likelihood(solver, problem := linear_gaussian()), problem, problem.posterior)


@pytest.mark.usefixtures("readme")
def test_the_readmes_networks_are_members(tmp_path: Path) -> None:
    kinds = {"prior.kind": "networks:Small", "severity_encoder.kind": "networks:Reads"}
    found = Evaluate().replace({**kinds, "severity_encoder.degradation.kind": "jpeg"})
    prior = found.prior.build((8, 4, 4))
    z, time = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 90])
    loss, _ = prior.training_loss(z, torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None for p in prior.parameters())
    found.prior.save(prior, tmp_path, (8, 4, 4))
    torch.testing.assert_close(found.prior.load(tmp_path).predict(z, time), prior.predict(z, time))
    with pytest.raises(UserError, match="cannot read the networks:Small prior"):
        found.prior.load(tmp_path / "elsewhere")
    assert isinstance(found.severity_encoder, SeverityRecipe)
    encoder = found.severity_encoder.build(Tiny().build(1).requires_grad_(False))
    estimate = encoder.estimate(torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert estimate.per_image().shape == (2,)
    assert all(p.requires_grad for p in encoder.parameters())


def test_ours_have_no_source_in_their_identity() -> None:
    assert "source" not in LDPS().canonical() | GaussianBlur().canonical() | Tiny().canonical()
    for member in members(AnySolver):
        assert member()._is_open is False


def test_what_is_derived_from_ours_is_not_ours() -> None:
    class Changed(LDPS):
        pass

    assert Changed().kind == f"{__name__}:{Changed.__qualname__}"
    assert Evaluate(solver=Changed()).identity != Evaluate(solver=LDPS()).identity
    assert LDPS().kind == "ldps"


def test_a_kind_of_its_own_closes_a_class() -> None:
    class Own(LDPS):
        kind: Literal["own"] = "own"

    assert "source" not in Own().canonical()


@pytest.mark.parametrize(
    "tree",
    [
        {"solver": {"kind": "mine_parts:Gentle"}},
        {"degradation": {"kind": "compose", "parts": [{"kind": "mine_parts:Darker"}]}},
        {"prior": {"kind": "mine_parts:Small"}},
        {"severity_encoder": {"kind": "mine_parts:Reads"}},
    ],
)
def test_stored_text_imports_nothing(tree: dict[str, Any], outside: Outside) -> None:
    with pytest.raises(
        UserError, match=r"is not imported because its module is not allowed: .* add --allow mine_parts"
    ) as said:
        Evaluate.parse(tree)
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match="the sweep names 'mine_parts:"):
        families.refuse_unnamed(tree, "the sweep")
    assert not outside.was_imported


def test_a_payload_imports_nothing_that_its_command_does_not_allow(outside: Outside) -> None:
    payload = outside.folder / "payload.pkl"
    payload.write_bytes(pickle.dumps(cell(outside)))
    assert outside.was_imported
    script = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).solver)"
    done = {}
    for allowed in ("", "other,mine_parts"):
        done[allowed] = subprocess.run(
            [sys.executable, "-c", script, str(payload)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": f"{PROJECT}:{outside.folder}", families.ALLOWED: allowed},
        )
        assert outside.was_imported == bool(allowed)
    assert (
        done[""]
        .stderr.rstrip()
        .splitlines()[-1]
        .startswith("workbench.core.config.UserError: 'mine_parts:Gentle' is not")
    )
    assert done["other,mine_parts"].stdout == "kind='mine_parts:Gentle' weight=0.5\n"
