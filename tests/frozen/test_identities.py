"""No refactoring moves a cell: every identity and every canonical JSON is as it was frozen."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from frozen import identities

from workbench.experiments.study import load_study

FROZEN = identities.read()
SHOWN, EVERY = 3, 6


@pytest.mark.parametrize("what", ["cells", "tasks", "support"])
@pytest.mark.parametrize("study", FROZEN["studies"])
def test_a_study_has_the_very_cells_that_were_frozen(study: str, what: str) -> None:
    presets, today = FROZEN["studies"][study], identities.now()[study]
    assert presets.keys() <= today.keys()
    for preset, kept in presets.items():
        assert len(today[preset][what]) == len(kept[what])
        if today[preset][what] != kept[what]:
            pytest.fail(f"{study} ({preset}), {what}:\n{_differences(kept[what], today[preset][what])}")


@pytest.mark.slow
def test_every_stage_has_the_canonical_json_that_was_frozen() -> None:
    kept, today = FROZEN["stages"], identities.stages()
    if missing := sorted(kept.keys() - today.keys()):  # new studies have stages of their own
        pytest.fail(f"{len(missing)} stages are no longer there: {missing[:SHOWN]}")
    assert len(kept) == 4039
    for identity, stage in kept.items():
        assert today[identity]["stage"] == stage["stage"]
        assert today[identity]["canonical"] == stage["canonical"]


def test_stored_configs_are_read_and_keep_their_identity(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    identities.write_elsewhere(folder)
    stages = json.loads(json.dumps(FROZEN["stages"]).replace(identities.ELSEWHERE, str(folder)))
    types = identities.stage_types()
    with identities.remembered_identities(load_study("robustness")[0].cell):
        for number, (identity, stage) in enumerate(sorted(stages.items())):
            if stage["stage"].startswith("evaluate") and number % EVERY:
                continue  # thousands that differ little
            found = types[stage["stage"]].parse(stage["config"])
            assert found.identity == identity, _json_diff(stage["canonical"], found.canonical())


@pytest.mark.parametrize("name", FROZEN["references"])
def test_cells_of_results_that_ship_are_read_and_keep_their_identity(name: str) -> None:
    kept, stored = FROZEN["references"][name], identities.stored_references()[name]
    assert stored == kept
    cell = load_study(name.partition("/")[0])[0].cell
    with identities.remembered_identities(cell):
        for identity, config in stored.items():
            # the content of the images is in the identity, and is no field
            data = {field: value for field, value in config["data"].items() if field != "fingerprint"}
            assert type(cell).parse({**config, "data": data}).identity == identity


def _differences(kept: list[str], today: list[str]) -> str:
    """What is missing, each beside what comes closest to it of what is new."""
    missing, new = [i for i in kept if i not in today], [i for i in today if i not in kept]
    lines = [f"{len(missing)} of {len(kept)} are missing, {len(new)} are new"]
    stages = identities.stages()
    for identity in missing[:SHOWN]:
        stage = FROZEN["stages"][identity]
        alike = [stages[i]["canonical"] for i in new if stages[i]["stage"] == stage["stage"]]
        diffs = [_json_diff(stage["canonical"], other) for other in alike]
        closest = min(diffs, key=lambda diff: diff.count("\n"), default="  nothing like it")
        lines.append(f"{stage['stage']} {identity}:\n{closest}")
    return "\n".join(lines)


def _json_diff(kept: Any, today: Any) -> str:
    before, after = dict(_leaves(kept)), dict(_leaves(today))
    return "".join(
        f"  {path}: {before.get(path, 'absent')} frozen, {after.get(path, 'absent')} today\n"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    )


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _leaves(value, f"{path}.{name}".removeprefix("."))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _leaves(value, f"{path}.{number}")
    else:
        yield path, json.dumps(tree)
