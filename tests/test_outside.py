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


def test_nothing_stored_imports_a_module(outside: Outside) -> None:
    """A settings file, the summary beside a page, cells.json: each is refused in a line, and nothing has run."""
    settings = outside.folder / "settings.json"
    settings.write_text(json.dumps({"settings": {"solver.kind": "mine_parts:Gentle"}, "provenance": {}}))
    outside.was_imported  # noqa: B018  (forget)
    named = ("show", "robustness", *SMOKE[:4], f"--preset-settings={settings}")
    said = outside.says(*named, code=2)
    assert "settings.json names 'mine_parts:Gentle', which is not imported because its module is not allowed" in said
    assert "add --allow mine_parts" in said
    said = outside.says("report", "--all", "--runs", "runs")
    assert "it is of a study of yours" in said
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
