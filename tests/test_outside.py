"""What a user keeps outside the clone, by the real command line from end to end."""

import json
from pathlib import Path

import pytest
import yaml
from users_folder import Outside

SMOKE = ("--preset", "smoke", "--runs", "runs", "--device", "cpu")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """A user's folder in which the study has been run."""
    made = Outside.make(tmp_path_factory.mktemp("outside"))
    said = made.says("study", "mine.py", *SMOKE, *made.flags)
    assert "2 cells, 0 cached" in said
    return made


def test_a_study_of_the_users_is_cached_and_reported(outside: Outside) -> None:
    (page,) = outside.folder.glob("runs/studies/mine-*/smoke-*/report/index.html")
    assert "Does a gentler solver restore darker pictures?" in page.read_text()
    assert "2 cells, 2 cached" in outside.says("study", outside.folder / "mine.py", *SMOKE, *outside.flags)
    assert "mine_parts:Gentle" in page.with_name("index.html").read_text()
    assert len(outside.identities()) == 2


def test_the_other_verbs_take_it(outside: Outside) -> None:
    said = outside.says("show", "mine", code=2)
    assert said.startswith("error: unknown study 'mine'")
    said = outside.says("sweep", "mine.py", *SMOKE[:4], *outside.flags, "--output", "sweeps")
    (file,) = [line for line in said.splitlines() if line.endswith(".yaml")]
    command = yaml.safe_load((outside.folder / file).read_text())["command"]
    assert command[:5] == ["python", "-m", "workbench", "run", str(outside.folder / "mine.py")]
    assert "--solver.weight=0.25" not in command


def test_a_member_enters_a_study_of_ours(outside: Outside) -> None:
    said = outside.says(
        "run", "robustness", *SMOKE, *outside.flags, "--solver.kind=mine_parts:Gentle", "--solver.weight=0.125"
    )
    assert "mine_parts:Gentle" in said
    assert outside.was_imported


def networks_of(outside: Outside) -> dict[str, str]:
    """The stages that were made of the user's own networks, and the digests of these networks' source."""
    made = {"train_prior": "prior", "train_severity": "severity_encoder", "fit_fusion": "severity_encoder"}
    found = {name: value for stage, member in made.items() for name, value in outside.identities(stage, member).items()}
    return found | outside.identities("evaluate", "prior")


def test_a_prior_and_a_severity_encoder_of_the_users_are_trained_and_restore(outside: Outside) -> None:
    command = ("run", "robustness", *SMOKE, *outside.network_flags)
    assert "training prior over tiny latents" in outside.says(*command)
    before = networks_of(outside)
    assert len(before) == 4
    assert len(set(before.values())) == 1
    outside.says(*command)
    assert networks_of(outside) == before

    path = outside.folder / "mine_networks.py"
    path.write_text(path.read_text().replace("(1.1 * view)", "(1.2 * view)"))
    outside.says(*command)
    after = networks_of(outside)
    assert before.items() < after.items()
    assert len(after) == 8
    assert len(set(after.values())) == 2


@pytest.mark.parametrize(("kind", "variance"), [("Brighter", "residual"), ("Known", "encoder")])
def test_an_estimator_of_the_users_needs_no_training(kind: str, variance: str, outside: Outside) -> None:
    encoder = (f"--severity_encoder.kind=mine_networks:{kind}", f"--start.variance={variance}")
    outside.says("run", "robustness", *SMOKE, *outside.flags, *encoder)
    if kind == "Known":
        said = outside.says("run", "robustness", *SMOKE, *outside.flags, encoder[0], "--start.variance=fused", code=2)
        assert "mine_networks:Known is not trained here, and what this start needs is fitted to encoders" in said


@pytest.mark.slow
def test_jobs_may_import_what_their_command_does(outside: Outside, tmp_path: Path) -> None:
    """Each job is a process of its own, which unpickles stages that name the user's networks."""
    command = ("study", "mine.py", *SMOKE[:2], *SMOKE[4:], *outside.network_flags, "--runs", tmp_path / "runs")
    said = outside.says(*command, "--allow", "mine_networks", "--cluster", "local")
    assert "train_prior: 1 submitted" in said
    assert "train_severity: 1 submitted" in said
    processes = {json.loads(path.read_text())["process"] for path in tmp_path.glob("runs/stages/*/*/provenance.json")}
    assert len(processes) == len(list(tmp_path.glob("runs/stages/*/*/provenance.json")))


def test_nothing_stored_imports_a_module(outside: Outside) -> None:
    """A settings file, the summary beside a page, cells.json: each is refused in a line, and nothing has run."""
    settings = outside.folder / "settings.json"
    settings.write_text(json.dumps({"settings": {"solver.kind": "mine_parts:Gentle"}, "provenance": {}}))
    outside.was_imported  # noqa: B018  (forget)
    for path, name in (("prior", "Small"), ("severity_encoder", "Reads")):
        networks = outside.folder / f"{path}.json"
        networks.write_text(json.dumps({"settings": {f"{path}.kind": f"mine_networks:{name}"}, "provenance": {}}))
        said = outside.says("show", "robustness", *SMOKE[:4], f"--preset-settings={networks}", code=2)
        assert (
            f"{path}.json names 'mine_networks:{name}', which is not imported because its module is not allowed" in said
        )
    named = ("show", "robustness", *SMOKE[:4], f"--preset-settings={settings}")
    said = outside.says(*named, code=2)
    assert "settings.json names 'mine_parts:Gentle', which is not imported because its module is not allowed" in said
    assert "add --allow mine_parts" in said
    said = outside.says("report", "--all", "--runs", "runs")
    assert "it belongs to your own study" in said
    assert not outside.was_imported
    assert "robustness" in outside.says(*named, "--allow", "mine_parts")
    assert outside.was_imported


def test_a_changed_source_is_another_cell(outside: Outside) -> None:
    before = outside.identities()
    path = outside.folder / "mine_parts.py"
    path.write_text(path.read_text().replace("return self.weight", "return 2 * self.weight"))
    assert "2 cells, 0 cached" in outside.says("study", "mine.py", *SMOKE, *outside.flags)
    after = outside.identities()
    assert before.items() < after.items()
    assert len(set(after.values())) == 2


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("absent.py", None, "there is no file"),
        ("nothing.py", "", "defines no study"),
        ("broken.py", "1 +", "cannot import broken: SyntaxError"),
        ("leaves.py", "exit()", "cannot import leaves: SystemExit"),
        ("json.py", "study = 1", "another module has this name; rename the file"),
        ("two-words.py", "", "is not a valid name of a Python module"),
        ("no.such", None, "cannot import no.such: ModuleNotFoundError"),
    ],
)
def test_what_is_no_study_is_refused_in_a_line(name: str, source: str | None, message: str, tmp_path: Path) -> None:
    from workbench.core.config import UserError
    from workbench.experiments.catalogue import address
    from workbench.experiments.study import load_study

    if source is not None:
        (tmp_path / name).write_text(source)
    given = str(tmp_path / name) if name.endswith(".py") else name
    with pytest.raises(UserError) as refusal:
        load_study(address(given))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
