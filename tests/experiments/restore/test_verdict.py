"""What is said against restored images, and what is not."""

from dataclasses import replace

import pytest

from workbench.experiments.restore.verdict import Found, judge


def image(
    number: int, ratio: float = 1.0, *, noise_std: float = 0.05, distrusted: bool = False, diverged: bool = False
) -> Found:
    return Found(f"{number}.png", ratio * noise_std, noise_std, distrusted, diverged)


@pytest.mark.parametrize("ratio", [0.31, 0.6, 1.0, 1.4, 1.9])
def test_residuals_of_honest_images_are_silent(ratio: float) -> None:
    verdict = judge([image(i, ratio) for i in range(4)])
    assert verdict.line is None
    assert not verdict.all_contradict


def test_a_distrusted_image_whose_residual_is_settled_is_silent() -> None:
    assert judge([image(0, 1.03, distrusted=True), image(1)]).line is None


def test_less_noise_than_the_models_own_error_is_no_contradiction() -> None:
    assert judge([image(0, 8.0, noise_std=0.01), Found("1.png", 0.08, 0.0, False, False)]).line is None
    assert judge([Found("1.png", 0.2, 0.0, False, False)]).all_contradict


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"ratio": 3.0}, "4 leave a residual of 3 times the noise"),
        ({"ratio": 0.1}, "4 leave a residual of 0.1 times the noise"),
        ({"ratio": float("nan")}, "4 leave a residual of nan times the noise"),
        ({"diverged": True}, "4 diverged"),
        ({"ratio": 1.4, "distrusted": True}, "in 4 y and the operator contradict the severity encoder"),
    ],
)
def test_what_contradicts_is_said_and_named(bad: dict, reason: str) -> None:
    against = [image(i, **bad) for i in range(4)]
    some = judge([*against, image(9)])
    assert some.line == (
        f"4 of 5 images contradict the operator or the model ({reason}): 0.png, 1.png, 2.png ...; "
        "check --operator, --severity, --params and --noise-std, and that the model knows such images"
    )
    assert not some.all_contradict
    assert judge(against).all_contradict


def test_an_estimate_that_explains_nothing_is_said() -> None:
    lost = replace(image(0), unexplained=True)
    line = judge([lost]).line
    assert line is not None
    assert line.startswith("1 of 1 image contradicts the operator or the model (1 starts from noise alone, because")


@pytest.mark.parametrize("as_text", [False, True])
def test_findings_are_read_from_a_row_of_the_table(as_text: bool) -> None:
    row = {"image": "a", "residual": 0.1, "noise_std": 0.05, "distrusted": False, "diverged": True, "start_sigma": 2.0}
    found = Found.of({name: str(value) for name, value in row.items()} if as_text else row)
    assert found == Found("a", 0.1, 0.05, distrusted=False, diverged=True, unexplained=True)
    assert not Found.of({**row, "start_sigma": float("nan")}).unexplained
