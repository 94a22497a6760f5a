from pathlib import Path

import pytest
from cli_support import CommandLine

from workbench import settings
from workbench.config import UserError
from workbench.settings import load_settings, with_settings
from workbench.stages.evaluate import Evaluate
from workbench.study import value_at


def test_what_ships_fits_a_cell_and_says_where_it_is_from() -> None:
    names = [path.stem for path in settings.PRESETS.glob("*.json")]
    assert names
    for name in names:
        found = load_settings(name)
        cell = Evaluate().replace(with_settings({"preset-settings": name}))
        assert cell != Evaluate()
        assert str(found.provenance["command"]).startswith("python -m workbench tune ")
        for path, value in found.settings.items():
            assert value_at(cell, path) == value


def test_without_settings_overrides_are_what_they_were() -> None:
    assert with_settings({"seed": 1}) == {"seed": 1}


def test_an_unknown_name_says_what_there_is(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PRESETS", tmp_path)
    (tmp_path / "one.json").touch()
    (tmp_path / "two.json").touch()
    said = cli.refuses("show", "robustness", "--preset-settings=nothing")
    assert said.startswith("there are no settings 'nothing'; there are: one, two; ")


@pytest.mark.parametrize("text", ["", "{}", '{"settings": {}, "provenance": {}, "more": 1}'])
def test_a_file_without_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(UserError, match=r"some\.json holds no settings: "):
        load_settings(str(tmp_path / "some.json"))
