import dataclasses
import itertools
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy.spatial.distance import pdist, squareform
from synthetic_study import make_full_results, make_likeness, make_results

from studies import _robustness_likeness as likeness
from studies._likeness_inputs import LikenessInputs, likeness_evidence, likeness_inputs
from workbench.config import UserError
from workbench.metrics import MantelResult, Moments, frechet_distance, statistics
from workbench.reporting import Section, number
from workbench.stages.latent_statistics import STATISTICS, _summary

NAMES = ("gaussian_blur", "random_inpainting", "motion_blur_crf", "gaussian_noise", "super_resolution", "jpeg")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)


def distances(n: int) -> np.ndarray:
    """The first two are close, the others spread."""
    points = np.random.default_rng(0).normal(0, 5, size=(n, 2))
    points[1] = points[0] + 0.3
    return squareform(pdist(points))


def make_frame(loss: np.ndarray, num_images: int = 60, names=NAMES, start_error: float = -40) -> pd.DataFrame:
    """Losses that grow with severity, from none at 0 to twice `loss` at 1; starts too, in timesteps."""
    rng = np.random.default_rng(1)
    severity = rng.uniform(size=num_images)
    rows = []
    for (i, encoder), (j, degradation) in itertools.product(enumerate(names[: len(loss)]), repeat=2):
        noise = rng.normal(0, 0.02, num_images) if i != j else 0
        oracle = np.full(num_images, 300)
        rows.append(
            pd.DataFrame(
                {
                    "encoder": encoder,
                    "degradation": degradation,
                    "image_id": np.arange(num_images),
                    "severity": severity,
                    "psnr": 25 - 2 * loss[i, j] * severity + noise,
                    "start_timestep": oracle + (np.round(start_error * severity) if i != j else 0),
                    "oracle_timestep": oracle,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def make_inputs(n: int = 6, loss: np.ndarray | None = None, **fields) -> LikenessInputs:
    d = distances(n)
    given = {
        "names": NAMES[:n],
        "latents": d,
        "errors": 0.8 * d,
        "spectra": d**0.5,
        "frame": make_frame(d if loss is None else loss),
        "num_images": 5000,
        "sampling": np.full(n, 0.2),
        "by_severity": np.stack([k * d for k in range(1, 6)]),
        "sampling_by_severity": np.full(5, 0.4),
    }
    return LikenessInputs(**(given | fields))


def draw(inputs: LikenessInputs) -> list[Section]:
    sections = (likeness.alike_section, likeness.link_section, likeness.severity_section, likeness.training_section)
    return [section(inputs) for section in sections]


def test_the_loss_matrix_is_the_mean_over_images() -> None:
    inputs = make_inputs()
    severity = inputs.cells[NAMES[0], NAMES[0]].index.get_level_values("severity")
    np.testing.assert_allclose(inputs.loss, 2 * distances(6) * severity.to_numpy().mean(), atol=0.02)
    assert not np.diag(inputs.loss).any()


def test_seeds_are_averaged_and_rows_are_paired_by_image() -> None:
    frame = make_frame(distances(4))
    shifted = frame.assign(psnr=frame["psnr"] + np.where(frame["encoder"] == NAMES[1], 0.5, 0.0))
    both = pd.concat([frame, shifted]).sample(frac=1, random_state=0)
    one, two = make_inputs(4, frame=frame), make_inputs(4, frame=both)
    moved = two.loss - one.loss
    assert moved[1, 0] == pytest.approx(-0.25)
    assert moved[0, 1] == pytest.approx(0.25)
    assert moved[2, 3] == pytest.approx(0)
    assert len(two.lost[NAMES[0], NAMES[1]]) == 60


def test_a_universal_encoder_is_left_out() -> None:
    frame = make_frame(distances(4))
    extra = frame[frame["encoder"] == NAMES[0]].assign(encoder="mixture")
    np.testing.assert_array_equal(
        make_inputs(4, frame=pd.concat([frame, extra])).loss, make_inputs(4, frame=frame).loss
    )


def test_the_most_alike_and_the_groups_are_named() -> None:
    inputs = make_inputs(4, latents=np.array([[0, 1, 9, 9], [1, 0, 9, 9], [9, 9, 0, 2], [9, 9, 2, 0.0]]))
    sentence = likeness.alike_sentence(inputs)
    assert "gaussian blur and random inpainting are most alike (Fréchet distance 1.0)" in sentence
    assert "as: gaussian blur and random inpainting; motion blur crf and gaussian noise." in sentence


@pytest.mark.parametrize(
    ("d", "expected"),
    [
        ([[0, 1, 9], [1, 0, 9], [9, 9, 0]], [[0, 1], [2]]),
        ([[0, 5, 5], [5, 0, 5], [5, 5, 0]], [[0], [1], [2]]),
        ([[0, 3], [3, 0]], [[0], [1]]),
    ],
)
def test_groups_are_cut_at_the_largest_step(d, expected) -> None:
    found = likeness.groups(np.array(d, float))
    assert sorted(found) == expected


def test_a_planted_link_is_found_with_its_n() -> None:
    sentence = likeness.link_sentence(make_inputs())
    assert sentence.startswith("The farther apart")
    assert "over the 30 ordered pairs" in sentence
    assert "all 720 permutations of the n = 6 degradations" in sentence
    r, p = re.search(r"r = ([\d.]+).*one-sided p = ([\d.]+)", sentence).groups()
    assert float(r) > 0.9
    assert float(p) < 0.01


def test_all_distances_that_were_tried_are_said_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """p = 0.03 of one distance of four is a hint: 4 times 0.03 is 0.12."""
    p = {"latents": 0.03, "errors": 0.2, "encoder_errors": 0.9}

    def found(x: np.ndarray, y: np.ndarray) -> MantelResult:
        mine = next((p[name] for name in p if x is getattr(inputs, name)), 0.4)
        return MantelResult(0.57, mine / 2, 1 - mine / 2, mine, 6, 720, True)

    inputs = make_inputs(encoder_errors=1.1 * distances(6))
    monkeypatch.setattr(likeness, "mantel_test", found)
    for sentence in (likeness.link_sentence(inputs), likeness.answer_sentences(inputs)[0]):
        assert sentence.startswith("A hint, and not more")
        assert "corrected for the 4 distances tried, p = 0.120" in sentence
        for said in ("distance of errors 0.57 (p = 0.200)", "(p = 0.400)", "encoders' errors 0.57 (p = 0.900)"):
            assert said in sentence
    p["latents"] = 0.01
    assert likeness.link_sentence(inputs).startswith("The farther apart")
    assert "0.0400" in likeness.link_section(inputs).html
    p["latents"] = 0.06
    assert "was not shown" in likeness.link_sentence(inputs)


def test_no_link_is_not_claimed() -> None:
    d = distances(6)
    assert "was not shown" in likeness.link_sentence(make_inputs(loss=d.max() - d + np.eye(6)))


@pytest.mark.parametrize("n", [2, 3])
def test_few_degradations_conclude_nothing(n: int) -> None:
    sentence = likeness.link_sentence(make_inputs(n))
    assert "cannot be concluded" in sentence
    assert f"1/{math.factorial(n)}" in sentence


def test_the_level_at_which_encoders_break_is_said_with_the_start() -> None:
    # every pair loses 2 dB x severity x 2: 0.4 dB in the first bin, 1.2 dB in the second
    inputs = make_inputs(4, loss=2.0 * (1 - np.eye(4)))
    sentence = likeness.break_sentence(inputs)
    assert "breaks at severity 0.2 to 0.4" in sentence
    assert "too late (it trusts the encoder too much)" in sentence
    assert "loses most at 0.8 to 1.0" in sentence
    assert "of 12 pairs, 12 break somewhere" in sentence
    html = likeness.severity_section(inputs).html
    assert html.count("0.2 to 0.4, too late") == 12
    early = likeness.break_sentence(make_inputs(4, frame=make_frame(2.0 * (1 - np.eye(4)), start_error=30)))
    assert "too early (it trusts the encoder too little)" in early


def test_encoders_that_never_break_are_named() -> None:
    loss = 2.0 * (1 - np.eye(4))
    loss[0, 1] = 0
    inputs = make_inputs(4, loss=loss)
    assert "11 break somewhere (gaussian blur on random inpainting never)" in likeness.break_sentence(inputs)
    assert likeness.severity_section(inputs).html.count(">never<") == 1
    nothing = make_inputs(4, loss=np.zeros((4, 4)))
    assert "not shown to lose more than 0.5 dB at any severity" in likeness.break_sentence(nothing)


def test_training_choices_by_hand() -> None:
    loss = np.array([[0, 1, 5, 4], [2, 0, 6, 3], [7, 7, 0, 1], [3, 8, 2, 0.0]])
    one, two, three = likeness.training_choices(loss)
    assert (one.chosen, one.worst, one.worst_at) == ((0,), 5, 2)
    # 0 with 2 leaves 1, 1: the worst 1; 0 with 3 leaves 2
    assert (two.chosen, two.worst) == ((0, 2), 1)
    assert two.mean == pytest.approx(0.5)
    # without 1 the loss on it is 1, without 3 it is 1: equal means decide nothing, the first is taken
    assert three.worst == 1
    assert three.mean == pytest.approx(0.25)


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_more_encoders_never_do_worse(n: int) -> None:
    loss = np.random.default_rng(n).uniform(0, 5, (n, n)) * (1 - np.eye(n))
    choices = likeness.training_choices(loss)
    assert [len(choice.chosen) for choice in choices] == list(range(1, min(3, n - 1) + 1))
    assert all(later.worst <= earlier.worst for earlier, later in itertools.pairwise(choices))
    for choice in choices:
        assert choice.worst == loss[list(choice.chosen)].min(0).max()


def test_the_training_sentence_agrees_with_the_choice() -> None:
    inputs = make_inputs()
    sentence = likeness.training_sentence(inputs)
    for choice in likeness.training_choices(inputs.loss):
        assert f"worst loss {number(choice.worst, 2)} dB" in sentence


@pytest.mark.parametrize(("n", "num_images"), [(2, 1), (2, 60), (3, 4), (4, 1), (6, 4)])
def test_any_number_of_degradations_is_reported_without_warnings(n: int, num_images: int) -> None:
    inputs = make_inputs(n, frame=make_frame(distances(n), num_images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sections = draw(inputs)
        assert all(likeness.answer_sentences(inputs))
    for section in sections:
        assert section.html
        assert "nan" not in section.html.lower()
    for name in NAMES[:n]:
        assert name.split("_")[0] in sections[0].html


def test_the_permutation_test_stands_in_the_page_for_every_distance() -> None:
    html = likeness.link_section(make_inputs(encoder_errors=distances(6))).html
    for name in ("latents", "errors", "encoders&#39; errors"):
        assert f"Fréchet distance of {name}" in html
    assert html.count("720 (all)") == 4
    assert html.count("<svg") == 4


def test_unfinished_studies_are_reported() -> None:
    frame = make_frame(distances(4))
    partial = frame[(frame["encoder"] != NAMES[0]) | (frame["degradation"] != NAMES[1])]
    inputs = make_inputs(4, frame=partial)
    assert math.isnan(inputs.loss[0, 1])
    assert all(section.html for section in draw(inputs))
    assert "was not tested" in likeness.link_sentence(inputs)
    assert "cannot be said" in likeness.training_sentence(inputs)
    alone = make_inputs(4, frame=frame[frame["encoder"] == frame["degradation"]])
    assert all(section.html for section in draw(alone))
    assert "cannot be said" in likeness.break_sentence(alone)


def test_other_images_are_refused() -> None:
    frame = make_frame(distances(4))
    other = (frame["encoder"] == NAMES[0]) & (frame["degradation"] == NAMES[1])
    frame.loc[other, "image_id"] += 1
    with pytest.raises(UserError, match="different images"):
        make_inputs(4, frame=frame).loss  # noqa: B018


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"names": NAMES[:1]}, "at least two"),
        ({"names": (NAMES[0],) * 4}, "at least two different"),
        ({"errors": np.zeros((3, 3))}, "expected 4 x 4"),
        ({"frame": pd.DataFrame({"encoder": []})}, "lack degradation, image_id"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_inputs(4, **changed)


@pytest.mark.parametrize("n", [4, 6])
def test_abbreviations_are_short_and_different(n: int) -> None:
    assert likeness.abbreviations(NAMES[:n])["gaussian_blur"] == "GB"
    crowded = ("gaussian_blur", "grey_blur", "gauss_bins", "jpeg", "jpeg2", "g_b", "g-b")
    found = likeness.abbreviations(crowded)
    assert len(set(found.values())) == len(crowded)


def write_statistics(folder: Path, level: float, num_images: int = 300, *, encoder: bool = False) -> Path:
    rng = np.random.default_rng(0)
    noise, severity = rng.normal(size=(num_images, 2, 4, 4)), rng.uniform(size=num_images)
    error = level * severity[:, None, None, None] * noise + 0.1 * level
    tenths = (severity * 10).astype(int)
    sets = {"latent": error + 1, "error": error} | ({"encoder_error": error / 2} if encoder else {})
    tensors = {
        f"{what}.{name}": array
        for what, values in sets.items()
        for name, array in _summary(values.astype(np.float32), tenths).items()
    }
    folder.mkdir()
    save_file(tensors | {"latent_shape": np.array([2, 4, 4])}, folder / STATISTICS)
    return folder


def test_inputs_come_from_results_and_folders(tmp_path: Path) -> None:
    results = make_results(12)
    folders = {
        name: write_statistics(tmp_path / name, level)
        for level, name in enumerate(("gaussian_noise", "gaussian_blur", "jpeg"), start=1)
    }
    evidence = likeness_evidence(folders)
    assert evidence["names"] == list(folders)
    inputs = likeness_inputs(results.frame, json.loads(json.dumps(evidence)))
    assert inputs.names == ("gaussian_noise", "gaussian_blur")
    assert inputs.num_images == 300
    assert inputs.encoder_errors is None
    # one noise at two levels: the errors' Gaussians differ by their spread and mean alone
    rng = np.random.default_rng(0)
    noise, severity = rng.normal(size=(300, 2, 4, 4)), rng.uniform(size=300)
    one, two = (Moments.of((k * severity[:, None, None, None] * noise + 0.1 * k).astype(np.float32)) for k in (1, 2))
    assert inputs.errors[0, 1] == pytest.approx(frechet_distance(one, two), rel=1e-3)
    assert inputs.latents[0, 1] == pytest.approx(inputs.errors[0, 1], rel=1e-3)
    assert inputs.spectra[0, 1] == pytest.approx(0, abs=1e-3)
    assert inputs.by_severity.shape == (5, 2, 2)
    assert (np.diff(inputs.by_severity[:, 0, 1]) > 0).all()
    assert all(section.html for section in draw(inputs))


def test_the_encoders_errors_are_used_where_all_have_them(tmp_path: Path) -> None:
    results = make_results(8)
    folders = {name: write_statistics(tmp_path / name, k, encoder=True) for k, name in enumerate(NAMES[:3], start=1)}
    inputs = likeness_inputs(results.frame, likeness_evidence(folders))
    np.testing.assert_allclose(inputs.encoder_errors, inputs.errors / 2, rtol=1e-2, atol=1e-3)
    lone = write_statistics(tmp_path / "lone", 2)
    assert likeness_evidence(folders | {NAMES[3]: lone})["encoder_errors"] is None


def test_statistics_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    results = make_results(8)
    one, two = write_statistics(tmp_path / "a", 1), write_statistics(tmp_path / "b", 2, num_images=250)
    with pytest.raises(UserError, match="gaussian_blur 300, random_inpainting 250"):
        likeness_evidence({NAMES[0]: one, NAMES[1]: two})
    with pytest.raises(UserError, match="at least two"):
        likeness_evidence({NAMES[0]: one})
    with pytest.raises(UserError, match="at least two"):
        likeness_inputs(results.frame, make_likeness((NAMES[0], "jpeg")))


def test_results_with_evidence_are_read_from_the_encoders_own_starts() -> None:
    results = make_full_results(8)
    inputs = likeness.read_likeness(results)
    assert inputs is not None
    own = results.frame[results.frame["variance"] == "encoder"]
    expected = LikenessInputs(**{**vars(make_inputs(6)), "frame": own})
    np.testing.assert_allclose(inputs.loss, expected.loss)
    link, training = likeness.answer_sentences(inputs)
    assert link.startswith("The farther apart")
    assert "Most alike are gaussian blur and motion blur crf" in link
    assert f"{number(likeness.training_choices(inputs.loss)[0].worst, 2)} dB)" in training


def test_results_without_evidence_have_no_section_on_it() -> None:
    results = make_results(4)
    assert likeness.read_likeness(results) is None
    assert [section(results) for section in likeness.SECTIONS] == [None] * 4
    one = dataclasses.replace(results, evidence={"likeness": make_likeness(("gaussian_blur", "jpeg"))})
    assert likeness.read_likeness(one) is None
