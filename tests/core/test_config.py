"""Overrides change what they name and nothing else, identities hold what counts, and errors are one line that helps."""

import json
import math
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, model_validator

from workbench.core.config import (
    ADDED_LATER,
    NOT_IDENTITY,
    Config,
    UnknownFieldError,
    UserError,
    as_override,
    digest,
    kind_of,
    members,
    overrides_between,
    parse_overrides,
    shown,
)


class Constant(Config):
    kind: Literal["constant"] = "constant"
    value: float = 1.0


class Ramp(Config):
    kind: Literal["ramp"] = "ramp"
    slope: float = Field(2.0, gt=0)
    num_steps: int = 10


Signal = Annotated[Constant | Ramp, Field(discriminator="kind")]


class Filter(Config):
    kind: Literal["filter"] = "filter"
    source: Signal = Ramp()
    order: int = 1


AnySignal = Annotated[Constant | Ramp | Filter, Field(discriminator="kind")]


class Task(Config):
    signal: AnySignal = Constant()
    second: Signal | None = None
    num_images: int | None = None
    widths: tuple[int, ...] = (1, 2)
    blend: tuple[Signal, ...] = (Constant(), Ramp())
    seed: int = 0
    folder: Path = Field(Path("here"), json_schema_extra=NOT_IDENTITY)
    batch_size: int = Field(8, ge=1, json_schema_extra=NOT_IDENTITY)

    @model_validator(mode="after")
    def _seed_fits(self) -> "Task":
        if self.seed == 13:
            raise UserError("seed 13 does not work with these images")
        return self


def error(overrides: dict[str, Any], task: Task | None = None) -> str:
    """The message of the UserError that the overrides raise, after a look at whether it is one plain line."""
    with pytest.raises(UserError) as raised:
        (task or Task()).replace(overrides)
    message = str(raised.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def test_replace_leaves_the_original_and_all_that_is_not_named() -> None:
    task = Task(signal=Ramp(slope=3, num_steps=4), seed=2)
    changed = task.replace({"signal.slope": 5.0}, batch_size=16)
    assert changed == Task(signal=Ramp(slope=5, num_steps=4), seed=2, batch_size=16)
    assert task == Task(signal=Ramp(slope=3, num_steps=4), seed=2)
    assert task.replace() == task
    assert type(changed.signal) is Ramp


def test_replace_validates_defaults_conversions_and_nested_configs() -> None:
    changed = Task().replace({"widths": [4, 5], "signal": Ramp(slope=7), "second": {"kind": "ramp"}, "folder": "there"})
    assert changed == Task(widths=(4, 5), signal=Ramp(slope=7), second=Ramp(), folder=Path("there"))
    assert Task(second=Ramp()).replace({"second": None}).second is None


@pytest.mark.parametrize("turned", [False, True])
def test_another_kind_drops_the_old_fields_whatever_the_order(turned: bool) -> None:
    overrides = {"signal.kind": "ramp", "signal.num_steps": 5}
    if turned:
        overrides = dict(reversed(overrides.items()))
    assert Task(signal=Constant(value=9)).replace(overrides) == Task(signal=Ramp(num_steps=5))


def test_the_same_kind_keeps_its_fields() -> None:
    task = Task(signal=Ramp(slope=9))
    assert task.replace({"signal.kind": "ramp", "signal.num_steps": 3}) == Task(signal=Ramp(slope=9, num_steps=3))


def test_kinds_within_kinds() -> None:
    overrides = {"signal.source.value": 4.0, "signal.source.kind": "constant", "signal.kind": "filter"}
    assert Task().replace(overrides) == Task(signal=Filter(source=Constant(value=4)))


@pytest.mark.parametrize("turned", [False, True])
def test_a_whole_config_is_in_place_before_what_is_changed_in_it(turned: bool) -> None:
    overrides: dict[str, Any] = {"signal": Filter(order=3), "signal.source.kind": "constant"}
    if turned:
        overrides = dict(reversed(overrides.items()))
    assert Task().replace(overrides) == Task(signal=Filter(order=3, source=Constant()))


def test_what_was_none_can_be_filled_by_its_fields() -> None:
    assert Task().replace({"second.kind": "ramp", "second.slope": 3.0}) == Task(second=Ramp(slope=3))


def test_unknown_fields_list_what_there_is() -> None:
    assert error({"sed": 1}) == (
        "unknown field 'sed'; Task has: signal, second, num_images, widths, blend, seed, folder, batch_size"
    )
    assert error({"signal.slope": 1}) == "unknown field 'signal.slope'; constant has: kind, value"
    assert error({"signal.kind": "ramp", "signal.value": 1}) == (
        "unknown field 'signal.value'; ramp has: kind, slope, num_steps"
    )
    assert error({"signal.source.value": 1}, Task(signal=Filter())) == (
        "unknown field 'signal.source.value'; ramp has: kind, slope, num_steps"
    )
    assert error({"signl.kind": "ramp"}).startswith("unknown field 'signl.kind'; Task has: signal,")


def test_unknown_kinds_list_what_there_is() -> None:
    message = error({"signal.kind": "sine"})
    assert message == "unknown kind 'sine' for signal; available: constant, ramp, filter"
    nested = error({"signal.kind": "filter", "signal.source.kind": "sine"})
    assert nested == "unknown kind 'sine' for signal.source; available: constant, ramp"
    assert error({"signal": {}}) == "signal has no kind: set --signal.kind=..."
    assert len(error({"signal.kind": "9" * 5000})) < 400


def test_bad_values_name_the_field_the_rule_and_the_value() -> None:
    assert error({"batch_size": 0}) == "batch_size: input should be at least 1 (got 0)"
    slope = error({"signal.kind": "ramp", "signal.slope": -2.0})
    assert slope == "signal.slope: input should be above 0 (got -2.0)"
    assert error({"seed": "x"}).startswith("seed: input should be a valid integer")
    assert error({"widths": [1, "x"]}).startswith("widths.1: ")
    assert error({"blend": [{"kind": "ramp", "slope": -1}]}).startswith("blend.0.slope: ")


def test_plain_values_have_no_fields() -> None:
    assert error({"seed.value": 1}) == "seed.value: seed is a plain value and has no fields"


def test_a_validators_own_words_come_through() -> None:
    assert error({"seed": 13}) == "seed 13 does not work with these images"


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Task().seed = 3  # type: ignore[misc]


def test_canonical_holds_defaults_and_leaves_out_what_cannot_change_a_result() -> None:
    assert Task().canonical() == {
        "signal": {"kind": "constant", "value": 1.0},
        "second": None,
        "num_images": None,
        "widths": [1, 2],
        "blend": [{"kind": "constant", "value": 1.0}, {"kind": "ramp", "slope": 2.0, "num_steps": 10}],
        "seed": 0,
    }
    assert json.loads(json.dumps(Task().canonical())) == Task().canonical()


def test_identity_follows_what_counts_and_only_that() -> None:
    same = [Task(), Task(seed=0), Task(batch_size=2, folder=Path("there")), Task(signal=Constant(value=1))]
    assert len({task.identity for task in same}) == 1
    other = [
        Task(seed=1),
        Task(signal=Ramp()),
        Task(signal=Ramp(slope=2.5)),
        Task(signal=Filter()),
        Task(widths=(2, 1)),
        Task(blend=(Ramp(), Constant())),
        Task(second=Constant()),
        Task(num_images=1),
    ]
    assert len({task.identity for task in [Task(), *other]}) == len(other) + 1
    assert len(Task().identity) == 12
    assert int(Task().identity, 16) >= 0


def test_a_field_added_later_leaves_the_identity_of_what_was_made_before() -> None:
    class Before(Config):
        seed: int = 0

    class Now(Before):
        precision: str = Field("float32", json_schema_extra=ADDED_LATER)

    assert Now().identity == Before().identity
    assert Now(precision="bf16").identity != Before().identity
    assert Now(precision="bf16").canonical() == {"seed": 0, "precision": "bf16"}


def test_identity_is_the_same_after_a_trip_through_json() -> None:
    task = Task(signal=Filter(source=Constant(value=0.1)), second=Ramp(slope=1e-7), widths=(3,))
    assert Task.parse(json.loads(task.model_dump_json())).identity == task.identity


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert len(digest({}, length=5)) == 5


def test_members_and_their_kinds() -> None:
    assert members(AnySignal) == (Constant, Ramp, Filter)
    assert members(Signal | None) == (Constant, Ramp)
    assert members(Ramp) == (Ramp,)
    assert [kind_of(member) for member in members(AnySignal)] == ["constant", "ramp", "filter"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("psld", "psld"),
        ("[1, 2]", [1, 2]),
        ('{"kind": "ramp"}', {"kind": "ramp"}),
        ('"3"', "3"),
        ("", ""),
        ("a=b", "a=b"),
        ("some/path with space", "some/path with space"),
    ],
)
def test_parse_overrides(text: str, value: object) -> None:
    assert parse_overrides([f"--a.b_c={text}"]) == {"a.b_c": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("9" * 5000, "a number of 5000 digits is too large", id="5000 digits"),
        pytest.param("[1, -" + "9" * 41 + "]", "a number of 42 digits is too large", id="digits in a list"),
        ("1e400", "the number 1e400 is too large"),
        ('{"a": -1e999}', "the number -1e999 is too large"),
        pytest.param("[" * 100_000, "too many nested brackets", id="100000 brackets"),
        pytest.param('{"a":' * 50_000, "too many nested brackets", id="50000 braces"),
        pytest.param("[" * 40 + "]" * 40, "too many nested brackets", id="40 brackets"),
        ('{"a": 1, "b": {"a": 1, "a": 2}}', "'a' is given twice: remove one"),
        ('"a\\u0000b"', r"'a\x00b' contains a null character"),
        ('{"\\u0000": 1}', r"'\x00' contains a null character"),
        ('["\\ud800"]', r"'\ud800' contains half a character (a lone surrogate)"),
    ],
)
def test_parse_overrides_refuses_values_that_no_field_can_take(text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_overrides(["--seed=1", f"--a.b={text}"])
    assert str(raised.value) == f"--a.b: {message}"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a": NaN}', "\udcff.npy", "9" * 40 + "x"])
def test_what_is_no_json_is_text(text: str) -> None:
    assert parse_overrides([f"--a={text}"]) == {"a": text}


def test_of_a_field_that_is_given_twice_the_last_value_counts() -> None:
    assert parse_overrides(["--a.b=1", "--c=2", "--a.b=3"]) == {"a.b": 3, "c": 2}


class Numbers(Config):
    count: int = 1
    ratio: float | None = 0.5
    widths: tuple[int, ...] = (1,)
    channels: Literal[1, 3] = 1
    flag: bool = False
    either: bool | int = 1
    anything: Any = None


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("field", ["count", "ratio", "channels"])
def test_true_is_no_number(field: str, value: bool) -> None:
    with pytest.raises(UserError, match=rf"^{field}: input should be a number, not true or false \(got {value}\)$"):
        Numbers().replace({field: value})
    with pytest.raises(UserError, match=r"^widths: input should be a number"):
        Numbers().replace(widths=[1, value])
    assert Numbers().replace(flag=value, either=value, anything=value).flag is value


@pytest.mark.parametrize(("value", "count"), [(3, 3), (3.0, 3), ("3", 3), (1e3, 1000)])
def test_whole_numbers_however_written_are_counts(value: object, count: int) -> None:
    assert Numbers().replace(count=value).count == count


@pytest.mark.parametrize(
    "value",
    [3.5, "x", "", None, math.nan, math.inf, "NaN", ["x"], {"a": "b"}, pytest.param("9" * 5000, id="5000 digits")],
)
def test_other_values_are_refused_in_one_short_line(value: object) -> None:
    for field in ("count", "widths"):
        with pytest.raises(UserError, match=rf"^{field}(\.0)?: .*input (should be|string as).*\(got .*\)$") as raised:
            Numbers().replace({field: value})
        assert len(str(raised.value)) < 400


def test_values_are_shown_without_control_characters_and_cut() -> None:
    assert shown("a\x1b[31m\nb\udcff") == r"'a\x1b[31m\nb\udcff'"
    assert shown("x" * 100_000) == "'" + "x" * 199 + "..."
    assert shown(10**5000) == "a number of 16610 bits"
    assert shown(list(range(1000))).endswith("...")


def test_a_config_is_not_a_plain_value() -> None:
    assert error({"signal": 3}) == "signal has fields: set them with --signal.NAME=VALUE (got 3)"


def test_parse_overrides_takes_many_and_none() -> None:
    assert parse_overrides([]) == {}
    assert parse_overrides(["--seed=1", "--signal.kind=ramp"]) == {"seed": 1, "signal.kind": "ramp"}


@pytest.mark.parametrize("argument", ["--seed", "seed=3", "-s=3", "--=3", "3", ""])
def test_parse_overrides_refuses_what_it_cannot_read(argument: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_overrides(["--seed=1", argument])
    assert str(raised.value) == f"cannot read {argument!r}: write overrides as --a.b=value"


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (Task(), Task(), {}),
        (Task(), Task(seed=3, num_images=7, folder=Path("there")), {"seed": 3, "num_images": 7, "folder": "there"}),
        (Task(num_images=7), Task(), {"num_images": None}),
        (Task(), Task(signal=Ramp()), {"signal.kind": "ramp"}),
        (Task(), Task(signal=Ramp(slope=0.1)), {"signal.kind": "ramp", "signal.slope": 0.1}),
        (Task(signal=Ramp(slope=3.0)), Task(signal=Ramp(slope=0.1)), {"signal.slope": 0.1}),
        (Task(), Task(signal=Filter(source=Constant())), {"signal.kind": "filter", "signal.source.kind": "constant"}),
        (
            Task(),
            Task(signal=Filter(source=Ramp(slope=1.0))),
            {"signal.kind": "filter", "signal.source.kind": "ramp", "signal.source.slope": 1.0},
        ),
        (Task(), Task(second=Ramp(num_steps=5)), {"second.kind": "ramp", "second.num_steps": 5}),
        (Task(second=Ramp()), Task(), {"second": None}),
        (Task(), Task(widths=(3,)), {"widths": [3]}),
        (Task(), Task(blend=(Constant(),)), {"blend": [{"kind": "constant", "value": 1.0}]}),
    ],
)
def test_the_overrides_that_make_one_config_of_another(here: Task, there: Task, expected: dict[str, Any]) -> None:
    found = overrides_between(here, there)
    assert found == expected
    assert here.replace(found) == there
    assert here.replace(parse_overrides([as_override(path, value) for path, value in found.items()])) == there


def test_errors_pass_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(UnknownFieldError("a.b", "unknown field 'a.b'")))
    assert (type(error), error.path, str(error)) == (UnknownFieldError, "a.b", "unknown field 'a.b'")
