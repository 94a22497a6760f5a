from pathlib import Path

import pytest
from command_line import CommandLine

from studies._autoencoders import AUTOENCODERS, prior_of
from workbench.core import families
from workbench.core.config import UserError
from workbench.experiments import settings
from workbench.experiments.settings import load_settings, with_settings
from workbench.experiments.study import setting_at
from workbench.stages.measure.evaluate import Evaluate
from workbench.weights.zoo import zoo_root


def test_what_ships_fits_a_cell_and_says_where_it_is_from() -> None:
    names = [path.stem for path in settings.PRESETS.glob("*.json")]
    assert names
    for name in names:
        found = load_settings(name)
        cell = Evaluate().replace(with_settings({"preset-settings": name}))
        assert cell != Evaluate()
        verb = "study zoo" if name.startswith("zoo_") else "tune"
        assert str(found.provenance["command"]).startswith(f"python -m workbench {verb} ")
        for path, value in found.settings.items():
            assert setting_at(cell, path) == value


def test_every_further_pair_that_ships_has_its_recipe_as_settings() -> None:
    pairs = {recipe.kind: (recipe, prior_of(recipe)) for recipe in AUTOENCODERS}
    named = {path.stem.removeprefix("zoo_") for path in settings.PRESETS.glob("zoo_*.json")}
    shipped = {path.name.removeprefix("fashion_mnist_32_") for path in zoo_root().glob("fashion_mnist_32_*")}
    assert named | {"tiny"} == shipped
    for kind in named:
        cell = Evaluate().replace(with_settings({"preset-settings": f"zoo_{kind}"}))
        assert (cell.autoencoder, cell.prior) == pairs[kind]


def test_without_settings_overrides_are_what_they_were() -> None:
    assert with_settings({"seed": 1}) == {"seed": 1}


def test_an_unknown_name_says_what_there_is(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PRESETS", tmp_path)
    (tmp_path / "one.json").touch()
    (tmp_path / "two.json").touch()
    said = cli.refuses("show", "robustness", "--preset-settings=nothing")
    assert said.startswith("unknown settings 'nothing'; available: one, two; ")


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\xff",
        b"\xff\xfe{\0}\0",
        b"[" * 200_000,
        b'{"settings": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b', "provenance": {}}',
        b'{"settings": {"seed": ' + b"9" * 10_000 + b'}, "provenance": {}}',
        b'{"settings": {"a": [[[[[1e999]]]]], "provenance": {}}',
        b'{"settings": {"\\ud800": 1}, "provenance": 3}',
        b"\0" * 1000,
        None,
    ],
)
def test_whatever_is_named_as_settings_ends_in_one_line(
    cli: CommandLine, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "some.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    said = cli.refuses("show", "robustness", f"--preset-settings={path}")
    assert "some.json" in said
    assert "\n" not in said.strip()


def test_settings_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.json").write_text('{"settings": {"seed": 3}, "provenance": {}}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert with_settings({"preset-settings": "~/some.json"}) == {"seed": 3}


@pytest.mark.parametrize("text", ["", "{}", '{"settings": {}, "provenance": {}, "more": 1}'])
def test_a_file_without_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(UserError, match=r"some\.json is not a settings file: "):
        load_settings(str(tmp_path / "some.json"))


def test_settings_name_no_function_that_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, named = tmp_path / "some.json", {"degradation.factory": "harmful:make"}
    path.write_text(
        '{"settings": {"degradation.kind": "deepinv", "degradation.factory": "harmful:make"}, "provenance": {}}'
    )
    with pytest.raises(
        UserError, match=r"names 'harmful:make', which is not imported because its module is not allowed"
    ):
        with_settings({"preset-settings": str(path)})
    monkeypatch.setattr(families, "_allowed", {"harmful"})
    found = with_settings({"preset-settings": str(path), **named})
    assert found == {"degradation.kind": "deepinv", **named}
