"""The README's figures, recomputed from the results that ship."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from studies._rows import has_column, mean_over
from studies._trivial import trivial_gain
from studies.adaptivity import results as adaptivity
from studies.autoencoders import results as autoencoders
from studies.few_steps import results as few_steps
from studies.robustness.likeness import Pair
from studies.robustness.results import OWN, TRUE, UNSEEN, Grid, Remedy, Robustness
from studies.robustness.results import read as read_robustness
from studies.solvers.results import MARGINS, Claim, Run, Solvers, read
from studies.tuning import results as tuning
from workbench.experiments.results import StudyResults
from workbench.metrics import mean_interval, statistics
from workbench.notebook import open_study
from workbench.reporting import number, percent, ranged, readable, spoken

README = "".join((Path(__file__).parents[1] / name).read_text() for name in ("README.md", "studies/README.md"))
SAID = " ".join(README.replace("\N{MINUS SIGN}", "-").split())
SOLVERS = {"ldps": "LDPS", "gml_dps": "GML-DPS", "psld": "PSLD", "resample": "ReSample"}
TRUTH = (adaptivity.TRUE_VARIANCE, adaptivity.OTHER_NOISE)
NAMES = {"mixture": "all six (universal)", UNSEEN: "all but the tested one"}


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results are those that ship, whatever else has been computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield


def shipped(name: str, preset: str) -> StudyResults:
    return open_study(name).results(preset)


@pytest.fixture(scope="module")
def robustness() -> Robustness:
    return read_robustness(shipped("robustness", "full"))


@pytest.fixture(scope="module")
def grid(robustness: Robustness) -> Grid:
    return robustness.grid


@pytest.fixture(scope="module")
def remedy(robustness: Robustness) -> Remedy:
    assert robustness.remedy is not None
    return robustness.remedy


@pytest.fixture(scope="module")
def found(here: None) -> Solvers:
    return read(shipped("solvers", "full"))


def assert_said(*figures: str) -> None:
    missing = [figure for figure in figures if figure.replace("\N{MINUS SIGN}", "-") not in SAID]
    assert not missing, f"README does not say {missing}"


def name_of(label: str) -> str:
    return NAMES.get(label, readable(label))


def matrix(grid: Grid, one_seed: bool) -> list[str]:
    """The rows of a table: each encoder's PSNR on each degradation, matched ones in bold."""
    lines = []
    for encoder in grid.encoders:
        cells = [number(float(grid.frames[encoder, d]["psnr"].mean()), 2) for d in grid.degradations]
        cells = [f"**{c}**" if d == encoder else c for c, d in zip(cells, grid.degradations, strict=True)]
        seed = " (one seed)" if one_seed and encoder == UNSEEN else ""
        lines.append(f"| {name_of(encoder)}{seed} | {' | '.join(cells)} |")
    return lines


def test_the_matrix_of_own_predictions(grid: Grid, remedy: Remedy) -> None:
    assert_said(*matrix(grid, one_seed=True))
    matched = [remedy.own.frames[d, d] for d in grid.degradations]
    for row, column in (
        ("degraded image", "psnr_degraded"),
        ("decoded, no diffusion (matched, one seed)", "psnr_decoded"),
    ):
        values = " | ".join(number(float(rows[column].mean()), 2) for rows in matched)
        assert_said(f"| *{row}* | {values} |")
    ceiling = {number(float(rows["psnr_ceiling"].mean()), 1) for rows in matched}
    assert ceiling == {"30.5"}
    assert_said("the autoencoder's ceiling is 30.5 dB")


def test_the_matrix_of_corrected_starts(remedy: Remedy) -> None:
    assert_said(*matrix(remedy.rules["fused"], one_seed=False))
    residual = [remedy.rules["residual"].frames["none", d]["psnr"].mean() for d in remedy.own.degradations]
    assert_said(f"| no encoder (residual alone) | {' | '.join(number(float(value), 2) for value in residual)} |")


def test_what_adapting_is_worth_on_photographs() -> None:
    found = adaptivity.read(shipped("adaptivity", "photos"))
    worth = {setting.name: mean_interval(setting.worth("psnr")) for setting in found.settings}
    few = [gain.mean for name, gain in worth.items() if name.startswith("LDPS in few steps")]
    others = [gain for name, gain in worth.items() if not name.startswith("LDPS in few steps")]
    assert all(gain.low < 0 < gain.high for gain in others), "nothing with the others"
    full_noise = mean_over(-setting.gain(adaptivity.FULL_NOISE, "psnr") for setting in found.settings)
    own_curve = mean_over(
        setting.gain(adaptivity.OTHER_NOISE, "psnr") - setting.gain(setting.chosen(setting.adaptive, "psnr"), "psnr")
        for setting in found.settings
    )
    lpips = mean_over(setting.worth("lpips") for setting in found.settings).scaled(-1)
    best = {setting.name: setting.gain(setting.chosen(setting.adaptive, "psnr"), "psnr") for setting in found.settings}
    rules = (adaptivity.BY_OPERATOR, adaptivity.BY_LEVEL)
    by_operator, by_level = (mean_over(setting.gain(rule, "psnr") for setting in found.settings) for rule in rules)
    over_levels, over_operators = (
        mean_over(rows[setting.name] - setting.gain(rule, "psnr") for setting in found.settings)
        for rule, rows in (
            (adaptivity.BY_LEVEL, best),
            (adaptivity.BY_OPERATOR, {one.name: one.gain(adaptivity.MATCHED, "psnr") for one in found.settings}),
        )
    )
    assert_said(
        f"gains {spoken(mean_over(setting.worth('psnr') for setting in found.settings), 2)} dB",
        f"{ranged(few, 2)} dB with LDPS in few steps",
        f"raises LPIPS by {spoken(lpips, 3)}",
        f"LPIPS becomes worse by {spoken(lpips, 3)}",
        f"it gains {spoken(over_levels, 2)} dB",
        f"one number of evaluations per operator already gains {spoken(by_operator, 2)} dB",
        f"per operator and severity {spoken(by_level, 2)}",
        f"better than one number per operator ({spoken(over_operators, 2)} dB)",
        f"{found.num_comparisons} comparisons",
        f"is worth {spoken(full_noise, 2)} dB",
        f"{spoken(own_curve, 2)} dB by each image's own curve",
        " | ".join(spoken(gain, 2) for gain in worth.values()),
    )
    for rule in (*found.settings[0].adaptive, *adaptivity.CONTROLS, *rules, *TRUTH):
        assert_said(" | ".join(spoken(mean_interval(one.gain(rule, "psnr")), 2) for one in found.settings))


def test_what_mismatch_costs_on_photographs() -> None:
    found = read_robustness(shipped("robustness", "photos_full"))
    grid, remedy = found.grid, found.remedy
    assert remedy is not None
    assert_said(*matrix(grid, one_seed=False))
    matched = [grid.frames[pair] for pair in grid.matched_pairs()]
    for row, column in (("degraded image", "psnr_degraded"), ("decoded, no diffusion (matched)", "psnr_decoded")):
        assert_said(f"| *{row}* | {' | '.join(number(float(rows[column].mean()), 2) for rows in matched)} |")
    residual = [remedy.rules["residual"].frames["none", d]["psnr"].mean() for d in grid.degradations]
    assert_said(f"*no encoder (residual alone)* | {' | '.join(number(float(value), 2) for value in residual)} |")
    groups = remedy.groups()
    pairs = groups["mismatched"]
    losses = {d: mean_interval(grid.mismatch_losses([d])) for d in grid.degradations}
    few = [loss.mean for d, loss in losses.items() if d not in ("random_inpainting", "gaussian_noise")]
    ratios = {name: mean_over(grid.frames[pair]["variance_ratio"] for pair in groups[name]) for name in groups
              if name != "no encoder"}  # fmt: skip
    decoded = mean_over(grid.frames[d, d]["psnr_decoded"] - grid.frames[e, d]["psnr_decoded"] for e, d in pairs)
    jpeg = {e: mean_interval(rows["psnr"] - rows["psnr_decoded"])
            for (e, d), rows in grid.frames.items() if d == "jpeg" and (e, d) in grid.pairs_of()}  # fmt: skip
    assert all(gain.low > 0 for e, gain in jpeg.items() if e not in ("jpeg", "mixture")), "from mismatched ones"
    nfe = [number(float(remedy.mean(rule, "nfe", pairs).mean()), 1) for rule in ("fused", OWN)]
    assert_said(
        f"loses {spoken(mean_interval(grid.mismatch_losses(grid.degradations)), 2)} dB on average",
        f"{spoken(losses['random_inpainting'], 2)} dB on inpainting, {spoken(losses['gaussian_noise'], 2)} on noise",
        f"{ranged(few, 2)} dB on the other four",
        f"{spoken(ratios['mismatched'], 2)} times the predicted one",
        f"matched encoders {spoken(ratios['matched'], 2)} times",
        f"still lose {spoken(mean_interval(remedy.lost(TRUE, pairs)), 2)} dB",
        f"{spoken(decoded, 2)} dB worse than those of matched",
        f"loses nothing: {spoken(mean_interval(remedy.lost(OWN, groups['universal'])), 2)} dB",
        f"mismatched encoders lose {spoken(mean_interval(remedy.lost('fused', pairs)), 2)} dB",
        f"with {nfe[0]} instead of {nfe[1]} evaluations",
        f"closes {percent(remedy.closed('fused', pairs))} of the gap",
        f"{spoken(mean_interval(remedy.lost('residual', groups['no encoder'])), 2)} dB are lost",
        f"24.79 against 25.35 dB, {spoken(jpeg['jpeg'], 2)}",
        f"not shown to differ ({spoken(jpeg['mixture'], 2)})",
    )


def test_what_mismatch_costs(robustness: Robustness, grid: Grid) -> None:
    mean = mean_interval(grid.mismatch_losses(grid.degradations))
    worst = max(grid.lost("psnr", pair).mean() for pair in grid.mismatched_pairs())
    by_seed = [one.mismatch_losses(grid.degradations).mean() for one in robustness.by_seed.values()]
    seeds = [number(float(value), 2) for value in by_seed]
    assert_said(
        f"loses {spoken(mean, 2)} dB on average",
        f"up to {number(worst, 2)} dB",
        f"({seeds[0]}, {seeds[1]} and {seeds[2]} dB)",
    )


def test_what_the_correction_gains_and_costs(remedy: Remedy) -> None:
    groups = remedy.groups()
    mismatched, unseen, matched, none = (groups[name] for name in ("mismatched", "unseen", "matched", "no encoder"))

    def lost(rule: str, pairs: list[Pair]) -> str:
        return spoken(mean_interval(remedy.lost(rule, pairs)), 2)

    def mean(rule: str, column: str, pairs: list[Pair], decimals: int = 0, scale: float = 1.0) -> str:
        return number(scale * float(remedy.mean(rule, column, pairs).mean()), decimals)

    def two(column: str, pairs: list[Pair], words: str, decimals: int = 0, scale: float = 1.0) -> str:
        return words.format(*(mean(rule, column, pairs, decimals, scale) for rule in ("fused", OWN)))

    judged = remedy.holding([pair for pairs in groups.values() for pair in pairs], "fused", OWN)
    gains = {pair: mean_interval(remedy.gain("fused", OWN, [pair])) for pair in judged}
    worse = [pair for pair in judged if gains[pair].high < 0]
    assert {degradation for _, degradation in worse} == {"gaussian_noise"}
    losses = ranged([-gains[pair].mean for pair in worse], 2)
    on_noise = [pair for pair in mismatched if pair[1] == "gaussian_noise"]
    noise = mean_interval(remedy.gain(TRUE, OWN, on_noise)).scaled(-1)
    assert_said(
        f"Mismatched encoders then lose {lost('fused', mismatched)} dB instead of 2.47",
        two("nfe", mismatched, "with {} network evaluations per image instead of {}"),
        two("flops", mismatched, "{} GFLOP instead of {}", 1, 1e-9),
        f"left out lose {lost('fused', unseen)} dB instead of 1.92",
        two("nfe", unseen, "with {} evaluations instead of {}"),
        f"Matched encoders gain {spoken(mean_interval(remedy.lost('fused', matched)).scaled(-1), 2)} dB",
        two("nfe", matched, "with {} instead of {}", 1),
        f"{lost('residual', none)} dB are lost, with {mean('residual', 'nfe', none)} evaluations",
        f"{len(worse)} of {len(judged)} pairs lose {losses} dB",
        f"a start from the true variance loses too, {spoken(noise, 2)} dB",
    )


def test_the_gap_is_a_yardstick(remedy: Remedy) -> None:
    pairs = remedy.groups()["mismatched"]
    above = [pair for pair in pairs if remedy.gain("fused", TRUE, [pair]).mean() > 0]

    by_family = {
        d: number(100 * remedy.closed("fused", [pair for pair in pairs if pair[1] == d]).mean, 0)
        for d in remedy.own.degradations
    }
    assert (by_family["gaussian_noise"], by_family["jpeg"]) == ("n/a", "n/a")
    few = remedy.holding(pairs, "mahalanobis", "fused")
    nfe = {rule: number(float(remedy.mean(rule, "nfe", few).mean()), 0) for rule in ("mahalanobis", "fused")}
    fused, true = (float(remedy.mean(rule, "nfe", above).mean()) for rule in ("fused", TRUE))
    assert fused > true, "at more evaluations"
    assert_said(
        f"closes {percent(remedy.closed('fused', pairs))} of the gap",
        f"{by_family['gaussian_blur']} % on blur, {by_family['random_inpainting']} % on inpainting, "
        f"{by_family['motion_blur_crf']} % on motion blur, {by_family['super_resolution']} % on super-resolution",
        f"does better on {len(above)} of {len(pairs)} pairs",
        f"closes {percent(remedy.closed('mahalanobis', few))} with {nfe['mahalanobis']} evaluations",
        f"closes {percent(remedy.closed('fused', few))} with {nfe['fused']} ({len(few)} mismatched pairs",
    )


def test_what_encoders_know_beside_the_known_severity(grid: Grid) -> None:
    frames = [grid.frames[pair] for pair in grid.matched_pairs()]
    own, known = (
        ranged([spearmanr(rows[column], rows["s2"]).statistic for rows in frames], 2)
        for column in ("var_hat", "severity")
    )
    assert not any(has_column(rows, "log_var_y") for rows in frames), "newer rows have more to beat: say so"
    assert_said(f"rank correlation {own} against {known}")


@pytest.mark.slow
def test_which_encoders_are_shown_to_beat_the_known_severity(grid: Grid) -> None:
    assert all(trivial_gain(grid.frames[pair]).low > 0 for pair in grid.matched_pairs())
    gains = [trivial_gain(grid.frames[pair]) for pair in grid.mismatched_pairs()]
    assert_said(
        f"worse than it on {sum(gain.high < 0 for gain in gains)} of {len(gains)} pairs, "
        f"and better on {sum(gain.low > 0 for gain in gains)}"
    )


def test_likeness_is_corrected_for_what_was_tried(robustness: Robustness) -> None:
    assert robustness.likeness is not None
    tests = list(robustness.likeness.tests.values())
    assert len(tests) == 4
    r, p = ([number(value, d) for value in values] for values, d in (
        ([test.r for test in tests], 2), ([test.p_two_sided for test in tests], 3),
    ))  # fmt: skip
    assert_said(
        f"rank correlation of {r[0]} with what is lost (two-sided p = {p[0]}, permuting n = 6",
        f"the others {r[1]}, {r[2]} and {r[3]} (p = {p[1]}, {p[2]} and {p[3]})",
        f"the smallest p is {number(4 * min(test.p_two_sided for test in tests), 3)}",
    )


def saved(claim: Claim) -> dict[str, float]:
    """By cost, how many times less the SNR-matched run takes."""
    return {cost: claim.savings[cost].mean for cost in ("nfe", "decoder_evals", "flops", "seconds")}


def test_what_solvers_save(found: Solvers) -> None:
    claims = found.claims
    holding = [claim for claim in claims.values() if claim.verdict == "holds"]
    costs = [saved(claim) for claim in holding]
    times = {cost: [one[cost] for one in costs] for cost in costs[0]}
    (failing,) = [claim for claim in claims.values() if claim.verdict != "holds"]
    assert (failing.run.solver, failing.run.degradation) == ("resample", "gaussian_blur")
    gains = [claim.gains["psnr"].mean for claim in holding]
    assert_said(
        f"for {len(holding)} of {len(claims)} pairs of solver",
        f"PSNR +{number(min(gains), 2)} to +{number(max(gains), 2)} dB",
        *(
            f"{number(min(times[cost]), 1)} to {number(max(times[cost]), 0)} times {words}"
            for cost, words in (
                ("nfe", "fewer network evaluations"),
                ("decoder_evals", "fewer decoder evaluations"),
                ("flops", "fewer FLOPs"),
                ("seconds", "less time"),
            )
        ),
        f"at most {MARGINS['psnr']} dB of PSNR, {MARGINS['ssim']} of SSIM and {MARGINS['lpips']} of LPIPS",
        f"gains {number(failing.gains['psnr'].mean, 2)} dB and fails by its LPIPS, "
        f"{number(-failing.gains['lpips'].mean, 3)} higher",
    )


def solver_table(found: Solvers) -> list[str]:
    """The lines of the table on what saves the evaluations."""
    rows = [
        (
            "solver on degradation",
            "NFE: pure noise, SNR match",
            "times fewer: NFE, decoder, FLOPs, time",
            "best fixed start: NFE, PSNR over pure noise",
            "SNR match over it",
            "SNR match over the fixed start of nearest NFE",
            "decoded over pure noise",
        )
    ]
    for pair in found.pairs:
        if (claim := pair.claim) is None:
            continue
        assert pair.fixed is not None
        assert pair.decoded_over_noise is not None
        over_noise, matched, nearest = pair.fixed
        rows.append(
            (
                f"{SOLVERS[pair.solver]}, {name_of(pair.degradation)}",
                f"{claim.over.nfe:.0f}, {number(claim.run.nfe, 1)}",
                ", ".join(number(times, 1) for times in saved(claim).values()),
                f"{over_noise.run.nfe:.0f}, {signed(over_noise.gains['psnr'])}",
                signed(matched.gains["psnr"]),
                f"{signed(nearest.gains['psnr'])} (NFE {nearest.over.nfe:.0f})",
                signed(pair.decoded_over_noise.gains["psnr"]),
            )
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def test_what_solvers_save_on_photographs() -> None:
    found = read(shipped("solvers", "photos"))
    assert_said(*solver_table(found)[1:])
    claims = {pair.degradation: pair.claim for pair in found.pairs if pair.claim is not None}
    assert {d: claim.verdict == "holds" for d, claim in claims.items()} == {
        "gaussian_blur": False,
        "random_inpainting": True,
    }
    on_blur, on_inpainting = (spoken(claims[d].gains["psnr"], 2) for d in ("gaussian_blur", "random_inpainting"))
    times = {d: number(saved(claim)["nfe"], 0) for d, claim in claims.items()}
    blur = claims["gaussian_blur"]
    fixed = [pair.fixed for pair in found.pairs if pair.fixed is not None]
    for degradation, claim in claims.items():
        few = max((one for one in _runs(found, degradation) if one.solver == "ldps_few"), key=_mean_psnr)
        assert _mean_psnr(few) > _mean_psnr(claim.run) - 0.2
        assert few.nfe <= claim.run.nfe / 3.9
    assert_said(
        f"gains {on_inpainting} dB over the best run from pure noise, with {times['random_inpainting']} times",
        f"it gains {on_blur} dB with {times['gaussian_blur']} times fewer",
        f"On inpainting it gains {on_inpainting} dB",
        f"LPIPS, which is {number(-blur.gains['lpips'].mean, 2)} higher",
        f"{ranged([one.over_noise.savings['nfe'].mean for one in fixed], 0)} times fewer evaluations than pure noise",
        f"adds {ranged([one.matched.gains['psnr'].mean for one in fixed], 2)} dB to it",
    )


def _runs(found: Solvers, degradation: str) -> list[Run]:
    return [run for pair in found.pairs if pair.degradation == degradation for run in pair.runs]


def _mean_psnr(run: Run) -> float:
    return float(run.rows["psnr"].mean())


def signed(estimate: statistics.Estimate) -> str:
    text = spoken(estimate, 2).replace("\N{MINUS SIGN}", "-")
    return text if text.startswith("-") else f"+{text}"


def signed_range(values: list[float]) -> str:
    return " to ".join(f"{value:+.2f}" for value in (min(values), max(values)))


def test_what_needs_no_severity(found: Solvers) -> None:
    assert_said(*solver_table(found))
    pairs = [(pair, pair.fixed) for pair in found.pairs if pair.fixed is not None]
    by_kind = [[one for pair, one in pairs if (pair.solver == "resample") == is_it] for is_it in (False, True)]
    by_solver = [[one.over_noise.savings["nfe"].mean for one in kind] for kind in by_kind]
    beaten = [p.degradation for p in found.pairs if (one := p.decoded_over_noise) and one.gains["psnr"].low > 0]
    assert beaten == ["gaussian_blur"] * 3
    over_best = [signed_range([one.matched.gains["psnr"].mean for one in kind]) for kind in by_kind]
    over_near = [signed_range([one.nearest.gains["psnr"].mean for one in kind]) for kind in by_kind]
    lpips = [-one.matched.gains["lpips"].mean for pair, one in pairs if pair.degradation == "gaussian_blur"]
    slow = [
        float(run.rows["seconds"].mean())
        for pair in found.pairs
        for run in pair.runs
        if pair.solver == "ldps" and run.nfe == 1000
    ]
    assert_said(
        f"needs {ranged(by_solver[False], 0)} times fewer evaluations than pure noise for LDPS, GML-DPS and PSLD",
        f"{ranged(by_solver[True], 0)} times fewer for ReSample",
        f"{over_best[0]} dB for the first three solvers and {over_best[1]} dB for ReSample",
        f"over the fixed start of nearest cost {over_near[0]} and {over_near[1]} dB",
        f"on blur fixed starts have the lower one, by {ranged(lpips, 3)}",
        f"took {number(min(slow), 1)} to {number(max(slow), 1)} s",
    )


def test_few_steps_on_photographs() -> None:
    found = few_steps.read(shipped("few_steps", "photos"))
    first, *others = found.names
    for name in others:
        nfe, gflop, psnr, lpips = (
            number(float(found.mean(name, column).mean()) / scale, decimals)
            for column, scale, decimals in (("nfe", 1, 1), ("flops", 1e9, 0), ("psnr", 1, 2), ("lpips", 1, 3))
        )
        gain = signed(mean_interval(found.gain(name, "psnr")))
        assert_said(f"| {nfe} | {gflop} | {psnr} | {gain} | {lpips} |")
    diffusion = mean_interval(found.mean(first, "psnr") - found.mean(first, "psnr_decoded"))
    over_long = mean_interval(found.gain("LDPS, 500 steps", "psnr")).scaled(-1)
    assert_said(
        f"restores {spoken(diffusion, 2)} dB above the decoded estimate",
        f"{spoken(over_long, 2)} dB above LDPS with its default scale",
        f"is worth {spoken(diffusion, 2)} dB over the decoded estimate",
    )


@pytest.mark.slow
def test_autoencoders() -> None:
    one = autoencoders.read(shipped("autoencoders", "all"))
    gains = one.contests
    trivial = [trivial_gain(reading.columns) for reading in one.readings.values()]
    least, most = (spoken(choose(trivial, key=lambda gain: gain.mean), 2) for choose in (min, max))
    assert all(gain.low > 0 for gain in trivial)
    assert_said(
        f"by {least} (PCA, blur) to {most} (flow, blur)",
        f"{spoken(gains['vq', 'kl', 'gaussian_blur'].scaled(-1), 2)} dB above VQ (31.5 dB)",
        f"{spoken(gains['flow', 'kl', 'gaussian_blur'].scaled(-1), 2)} above the flow; on inpainting",
        f"KL {spoken(gains['vq', 'kl', 'random_inpainting'].scaled(-1), 2)} dB above VQ",
        f"{spoken(gains['flow', 'kl', 'random_inpainting'].scaled(-1), 2)} above the flow; PCA",
        f"(rank {spoken(one.ranks['vqgan']['vq'], 3)} higher",
    )
    undecided = gains["tiny", "kl", "random_inpainting"]
    assert undecided.low < 0 < undecided.high


def test_tuning() -> None:
    found = tuning.read(shipped("tuning", "desk"))
    gains = {name: signed(gain) for name, gain in found.gains.items()}
    worst = found.worst_transfer
    assert worst is not None
    assert_said(
        f"{gains['gaussian_blur']} dB on blur",
        f"{gains['random_inpainting']} dB on inpainting",
        f"{gains['motion_blur_crf']} dB on motion blur with 14.7 instead of 18.3",
        f"loses {spoken(worst.transfer.quality.scaled(-1), 2)} dB",
    )
