import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from every_degradation import EVERY as EVERY_DEGRADATION
from safetensors.torch import load_file
from small_study import NUM_IMAGES, tiny_cell, write_images

from workbench.autoencoders import Autoencoder
from workbench.core.config import UserError
from workbench.data.contact_sheet import contact_sheet
from workbench.data.shown import shown
from workbench.degradations import JPEG, Degradation, GaussianBlur
from workbench.diffusion import UNetRecipe
from workbench.metrics import psnr, ssim, ssim_valid
from workbench.severity.start import Fixed, Official, SNRMatch
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import EXAMPLES, LPIPS_ABSENT, ROWS
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_severity import TrainSeverity

COLUMNS = {
    "image_id",
    "psnr",
    "ssim",
    "ssim_valid",
    "psnr_degraded",
    "psnr_decoded",
    "psnr_ceiling",
    "residual_ratio",
    "residual_rms_decoded",
    "log_var_y",
    "nfe",
    "decoder_evals",
    "encoder_evals",
    "flops",
    "seconds",
    "start_seconds",
    "start_variance",
    "distrusted",
    "diverged",
    "var_hat",
    "s2",
    "bias",
    "start_timestep",
    "oracle_timestep",
    "fell_back",
    "severity",
    "measurement_set",
}


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    return tiny_cell(images)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


def rows(cell: Evaluate, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(cell.ensure(runtime) / ROWS)


@pytest.fixture(scope="module")
def frame(cell: Evaluate, runtime: Runtime) -> pd.DataFrame:
    return rows(cell, runtime)


@pytest.mark.parametrize("degradation", EVERY_DEGRADATION, ids=lambda degradation: degradation.kind)
def test_every_degradation_gives_a_row_an_image(degradation: Degradation, cell: Evaluate, runtime: Runtime) -> None:
    stage = cell.replace({"degradation": degradation})
    stage.check_operators()
    found = rows(stage, runtime)
    assert (
        COLUMNS
        <= set(found.columns)
        <= COLUMNS | {"lpips"} | ({"operator"} if degradation.kind == "mixture" else set())
    )
    assert len(found) == stage.num_images
    assert found["image_id"].tolist() == cell.data.split("test").first(cell.num_images).ids.tolist()
    assert np.isfinite(found.select_dtypes("number").to_numpy()).all()
    assert found["severity"].between(0, 1).all()
    assert (found["measurement_set"] == stage.measurement_set()).all()


@pytest.mark.parametrize("kind", ["ldps", "no_guidance", "decode_only"])
def test_costs_are_those_of_the_solver(kind: str, cell: Evaluate, runtime: Runtime) -> None:
    found = rows(cell.replace({"solver.kind": kind}), runtime)
    assert (found["encoder_evals"] == 1).all()
    assert (found["decoder_evals"] == 1 + (found["nfe"] if kind == "ldps" else 0)).all()
    assert (found["nfe"] <= cell.sampler.num_steps).all()
    assert (found["nfe"] == 0).all() == (kind == "decode_only")
    if kind == "decode_only":
        assert found["psnr"].to_numpy() == pytest.approx(found["psnr_decoded"].to_numpy(), abs=1e-3)


def test_figures_are_those_of_the_pictures(cell: Evaluate, runtime: Runtime, frame: pd.DataFrame) -> None:
    x = cell.data.split("test").first(cell.num_images).batch(slice(None))
    autoencoder = cell.autoencoder_stage().load(runtime)
    with torch.no_grad():
        ceiling = psnr(autoencoder.decode(autoencoder.encode(x)), x)
    assert frame["psnr_ceiling"].to_numpy() == pytest.approx(ceiling.numpy(), abs=1e-3)
    kept = load_file(cell.ensure(runtime) / EXAMPLES)
    restored = kept["restored"] / 255  # rounded to 8 bits
    assert frame["psnr"].to_numpy() == pytest.approx(psnr(restored, x).numpy(), abs=1e-2)
    assert frame["ssim"].to_numpy() == pytest.approx(ssim(restored, x).numpy(), abs=1e-2)
    assert frame["ssim_valid"].to_numpy() == pytest.approx(ssim_valid(restored, x).numpy(), abs=1e-2)


def test_true_error_and_bias_are_of_the_latents(cell: Evaluate, runtime: Runtime, frame: pd.DataFrame) -> None:
    images = cell.data.split("test").first(cell.num_images)
    severity, ids = cell.degradation.draw_severity(images.ids, cell.seed), images.ids
    measurement = cell.degradation.measure(images.batch(slice(None)), severity, ids, cell.seed)
    with torch.no_grad():
        z0 = cell.autoencoder_stage().load(runtime).encode(images.batch(slice(None)))
    error = (cell.severity_stage().load(runtime).estimate(measurement.encoder_input()).z_hat - z0).flatten(1)
    assert frame["severity"].to_numpy() == pytest.approx(severity.numpy())
    assert frame["s2"].to_numpy() == pytest.approx(error.var(1).numpy(), rel=1e-3)
    assert frame["bias"].to_numpy() == pytest.approx(error.mean(1).numpy(), rel=1e-3, abs=1e-5)


def test_the_oracle_rule_starts_at_the_oracle_timestep(cell: Evaluate, runtime: Runtime, frame: pd.DataFrame) -> None:
    oracle = rows(cell.replace({"start.kind": "oracle_variance"}), runtime)
    assert oracle["start_timestep"].tolist() == frame["oracle_timestep"].tolist()
    assert oracle["oracle_timestep"].tolist() == frame["oracle_timestep"].tolist()


@pytest.mark.parametrize("num_examples", [0, 2, 50])
def test_the_first_images_are_kept_as_examples(
    num_examples: int, cell: Evaluate, runtime: Runtime, tmp_path: Path, frame: pd.DataFrame
) -> None:
    stage = cell.replace({"num_examples": num_examples})
    assert stage.identity == cell.identity
    stage.work(tmp_path, runtime)
    kept = load_file(tmp_path / EXAMPLES)
    images = cell.data.split("test").first(min(num_examples, cell.num_images))
    assert kept["image_id"].tolist() == images.ids.tolist()
    if num_examples == 0:
        assert set(kept) == {"image_id"}
        return
    assert set(kept) == {"clean", "degraded", "decoded", "restored", "image_id"}
    assert (kept["clean"] / 255 - images.batch(slice(None))).abs().max() <= 0.5 / 255 + 1e-6
    for picture in ("degraded", "decoded", "restored"):
        assert kept[picture].shape == kept["clean"].shape
        assert kept[picture].dtype == torch.uint8


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_size_does_not_matter(batch_size: int, cell: Evaluate, runtime: Runtime, tmp_path: Path) -> None:
    # starts by the true error differ from image to image, so images leave their slots at different times
    varied = cell.replace({"start.kind": "oracle_variance", "start.offset_db": 15.0, "degradation.kind": "mixture"})
    expected = rows(varied, runtime)
    assert expected["nfe"].nunique() > 1
    varied.work(tmp_path, Runtime(runtime.root, batch_size=batch_size))
    found = pd.read_parquet(tmp_path / ROWS)
    assert found.columns.tolist() == expected.columns.tolist()
    for name in expected.columns.drop(["seconds", "start_seconds"]):
        if expected[name].dtype.kind == "f":
            assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-3, abs=1e-3), name
        else:
            assert found[name].tolist() == expected[name].tolist(), name


def test_fewer_images_are_the_first_of_more(cell: Evaluate, runtime: Runtime, frame: pd.DataFrame) -> None:
    fewer = rows(cell.replace({"num_images": 3}), runtime)
    assert fewer["image_id"].tolist() == frame["image_id"].tolist()[:3]
    assert fewer["psnr"].to_numpy() == pytest.approx(frame["psnr"].to_numpy()[:3], abs=1e-3)


def test_the_measurement_set_is_that_of_images_degradation_and_seed(cell: Evaluate, tmp_path: Path) -> None:
    same = [
        {"severity_encoder.degradation.kind": "gaussian_noise"},
        {"severity_encoder.seed": 1},
        {"autoencoder.seed": 1},
        {"prior.seed": 1},
        {"start.offset_db": 3.0},
        {"solver.kind": "no_guidance"},
        {"sampler.num_steps": 10},
        {"num_examples": 1},
    ]
    other = [
        {"seed": 1},
        {"degradation.kind": "gaussian_noise"},
        {"degradation.noise_std": 0.1},
        {"num_images": 5},
        {"split": "val"},
        {"data.path": str(write_images(tmp_path / "others.npy", seed=1))},
    ]
    assert {cell.replace(overrides).measurement_set() for overrides in same} == {cell.measurement_set()}
    names = [cell.replace(overrides).measurement_set() for overrides in other]
    assert len({cell.measurement_set(), *names}) == len(other) + 1


def test_precision_is_part_of_the_identity_and_the_default_as_before_there_was_one(
    cell: Evaluate, runtime: Runtime, frame: pd.DataFrame
) -> None:
    assert "precision" not in cell.canonical()
    low = cell.replace({"precision": "bf16"})
    assert low.identity != cell.identity
    found = rows(low, runtime)
    assert found["psnr"].to_numpy() == pytest.approx(frame["psnr"].to_numpy(), abs=0.5)
    assert found["psnr"].tolist() != frame["psnr"].tolist()


FLOPS_COUNTED = 2
"""Images encoded to count FLOPs: one without a gradient, one with."""


def count_encoded(patch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that E is given from now on."""
    encoded: list[int] = []
    encode = Autoencoder.encode

    def counted(self: Autoencoder, x: torch.Tensor) -> torch.Tensor:
        encoded.append(len(x))
        return encode(self, x)

    patch.setattr(Autoencoder, "encode", counted)
    return encoded


def test_a_cell_names_its_metrics_and_nothing_else_is_computed(
    cell: Evaluate, runtime: Runtime, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "metrics" not in cell.canonical()
    assert cell.replace({"metrics": [{"kind": kind} for kind in ("psnr", "ssim", "residual", "lpips")]}) == cell
    own = cell.replace({"metrics": [{"kind": "residual"}, {"kind": "ssim"}]})
    assert own.identity != cell.identity
    for stage in own.upstream():
        stage.ensure(runtime)
    with monkeypatch.context() as patch:
        encoded = count_encoded(patch)
        rows = pd.read_parquet(own.ensure(runtime) / ROWS)
    assert sum(encoded) in (0, FLOPS_COUNTED), "once in a process"
    absent = {"psnr", "psnr_degraded", "psnr_decoded", "psnr_ceiling", "lpips", "s2", "bias", "oracle_timestep"}
    assert list(rows) == [name for name in frame if name not in absent]
    pd.testing.assert_series_equal(rows["residual_ratio"], frame["residual_ratio"])


def test_columns_keep_their_order(frame: pd.DataFrame) -> None:
    assert list(frame)[:8] == [
        *("image_id", "psnr", "ssim", "ssim_valid", "psnr_degraded", "psnr_decoded", "psnr_ceiling", "residual_ratio")
    ]
    assert [name for name in list(frame)[8:] if name != "lpips"] == [
        *("nfe", "decoder_evals", "encoder_evals", "flops", "seconds", "start_seconds"),
        *("residual_rms_decoded", "log_var_y", "var_hat", "start_variance", "distrusted", "s2", "bias"),
        *("start_timestep", "oracle_timestep", "fell_back", "diverged", "severity", "measurement_set"),
    ]


@pytest.mark.parametrize("start", ["snr_match", "oracle_variance"])
def test_each_clean_image_is_encoded_once(
    start: str, cell: Evaluate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell.replace({"start.kind": start, "seed": 7})
    for stage in cell.upstream():
        stage.ensure(runtime)
    encoded = count_encoded(monkeypatch)
    cell.ensure(runtime)
    assert sum(encoded) - cell.num_images in (0, FLOPS_COUNTED), "once in a process"


def test_a_moved_file_is_the_same_cell(cell: Evaluate, images: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.npy"
    moved.write_bytes(images.read_bytes())
    assert cell.replace({"data.path": str(moved)}).identity == cell.identity
    shuffled = tmp_path / "shuffled.npy"
    np.save(shuffled, np.load(images)[::-1])
    assert cell.replace({"data.path": str(shuffled)}).identity == cell.identity


def test_too_many_images_are_refused_before_anything_runs(cell: Evaluate) -> None:
    held = len(cell.data.split("test"))
    cell.replace({"num_images": held}).check()
    with pytest.raises(UserError, match=f"asked for {NUM_IMAGES} test images, but the split has {held}"):
        cell.replace({"num_images": NUM_IMAGES}).check()


def test_a_size_that_the_autoencoder_cannot_take_is_refused(cell: Evaluate, tmp_path: Path) -> None:
    small = cell.replace({"data.size": 10})
    with pytest.raises(UserError, match="divisible by 4"):
        small.ensure(Runtime(tmp_path))


def test_more_steps_than_timesteps_are_refused_at_validation(cell: Evaluate) -> None:
    with pytest.raises(UserError, match="num_steps must be at most T = 1000, got 1001"):
        cell.replace({"sampler.num_steps": 1001})
    with pytest.raises(UserError, match="at most T = 10, got 20"):
        cell.replace({"prior.num_timesteps": 10})
    assert cell.replace({"sampler.num_steps": 1000}).sampler.num_steps == 1000


def test_steps_and_starts_are_those_of_the_prior_that_is_given(cell: Evaluate, tmp_path: Path) -> None:
    UNetRecipe(block_out_channels=(16, 16), num_timesteps=2000).build((2, 4, 4)).save(tmp_path)
    given = cell.replace({"prior.source": str(tmp_path), "sampler.num_steps": 1500})
    given.check()
    with pytest.raises(UserError, match=r"sampler\.num_steps must be at most T = 2000, got 2500"):
        given.replace({"sampler.num_steps": 2500}).check()
    given.replace({"start": Fixed(timestep=1500)}).check()
    with pytest.raises(UserError, match=r"start\.timestep must be below T = 2000, got 2000"):
        given.replace({"start": Fixed(timestep=2000)}).check()
    shutil.copytree(tmp_path / "unet", tmp_path / "flow" / "unet")
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "flow" / "scheduler")
    flow = given.replace({"prior.source": str(tmp_path / "flow")})
    flow.check()
    for start in (Fixed(timestep=100), Official()):
        with pytest.raises(UserError, match="needs a DDPM prior's timesteps, but this prior has none"):
            flow.replace({"start": start}).check()


def test_stages_come_in_order_and_are_named(cell: Evaluate, tmp_path: Path) -> None:
    todo = cell.missing(Runtime(tmp_path))
    assert todo[-1] is cell
    assert [stage.name for stage in todo].count("train_autoencoder") == 1
    for number, stage in enumerate(todo):
        before = {s.identity for s in todo[:number]}
        assert {s.identity for s in stage.upstream()} <= before
        assert stage.effort() > 0
        assert stage.label


def test_a_cell_is_called_by_what_it_is_about(cell: Evaluate) -> None:
    kinds = f"{cell.autoencoder.kind}, {cell.start.kind}, {cell.solver.kind}"
    about = cell.replace({"degradation": GaussianBlur(), "severity_encoder.degradation": GaussianBlur()})
    assert about.label == f"gaussian_blur, {kinds}"
    assert about.replace({"degradation": GaussianBlur(noise_std=0.1)}).label.startswith(
        "gaussian_blur by gaussian_blur"
    )
    assert about.replace({"degradation": JPEG()}).label == f"jpeg by gaussian_blur encoder, {kinds}"
    alone = about.replace({"severity_encoder.kind": "none", "start": SNRMatch(variance="residual")})
    assert alone.label == "gaussian_blur without encoder, tiny, snr_match, ldps"


@pytest.mark.parametrize("guess", ["view", "pseudo_inverse"])
def test_without_an_encoder_the_residual_decides(guess: str, cell: Evaluate, runtime: Runtime) -> None:
    none = cell.replace(
        {"severity_encoder.kind": "none", "severity_encoder.guess": guess, "start.variance": "residual"}
    )
    assert not any(isinstance(stage, TrainSeverity) for stage in none.missing(runtime)), "nothing may be trained"
    found = rows(none, runtime)
    assert (found["var_hat"] == 1).all()
    assert found["start_variance"].nunique() > 1
    assert (found["encoder_evals"] == 2).all(), "E itself, and once more for Stein's estimate"
    assert np.isfinite(found["psnr"]).all()


def test_without_an_encoder_there_is_no_variance_of_its_own(cell: Evaluate) -> None:
    for start in ({"start.variance": "encoder"}, {"start.variance": "fused"}, {"start.kind": "official"}):
        with pytest.raises(UserError, match=r"set start\.variance=residual"):
            cell.replace({"severity_encoder.kind": "none", **start})
    for start in ({"start.kind": "full"}, {"start.kind": "oracle_variance"}):
        cell.replace({"severity_encoder.kind": "none", **start})


def test_given_encoder_weights_are_looked_at_first(cell: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="has no severity encoder"):
        cell.replace({"severity_encoder.source": str(tmp_path)}).check()
    with pytest.raises(UserError, match="has no severity encoder"):
        cell.replace({"severity_encoder.source": str(tmp_path / "missing")}).check()


def test_a_pseudo_inverse_needs_a_linear_operator(cell: Evaluate) -> None:
    none = {"severity_encoder.kind": "none", "severity_encoder.guess": "pseudo_inverse", "start.variance": "residual"}
    with pytest.raises(UserError, match="jpeg is not linear; use guess=view"):
        cell.replace({**none, "degradation.kind": "jpeg"})


def test_a_fused_start_is_never_later_than_the_encoders_own(
    cell: Evaluate, runtime: Runtime, frame: pd.DataFrame
) -> None:
    fused = cell.replace({"start.variance": "fused"})
    assert fused.fusion_stage() in fused.upstream()
    found = rows(fused, runtime)
    assert (found["start_variance"] >= found["var_hat"] * (1 - 1e-5)).all()
    assert (found["nfe"] >= frame["nfe"]).all()
    assert found["distrusted"].dtype == bool
    changed = found["start_variance"] > 1.5 * found["var_hat"]
    assert (changed | ~found["distrusted"]).all(), "whom the rule distrusts it does not follow"


def test_a_distance_needs_no_residual(cell: Evaluate, runtime: Runtime) -> None:
    found = rows(cell.replace({"start.variance": "mahalanobis"}), runtime)
    assert (found["encoder_evals"] == 1).all()
    assert (found["start_variance"] >= found["var_hat"] * (1 - 1e-5)).all()


def test_guidance_that_diverges_is_flagged_and_the_rest_go_on(cell: Evaluate, runtime: Runtime) -> None:
    wild = rows(cell.replace({"solver.guidance_scale": 1e6}), runtime)
    assert wild["diverged"].dtype == bool
    assert wild["diverged"].all()
    assert np.isfinite(wild.select_dtypes("number").to_numpy()).all()


def test_a_residual_that_grows_is_flagged_where_guidance_began_at_z_hat(
    cell: Evaluate, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.stages.measure import scoring

    monkeypatch.setattr(scoring, "RESIDUAL_GROWTH", 0.0)
    assert rows(cell.replace({"seed": 5}), runtime)["diverged"].all()
    assert not rows(cell.replace({"seed": 5, "solver.kind": "no_guidance"}), runtime)["diverged"].any()
    from_noise = rows(cell.replace({"seed": 5, "start.kind": "full"}), runtime)
    assert not from_noise["diverged"].any(), "there is no residual at its start to compare with"


def test_psld_refuses_an_operator_that_is_not_linear(cell: Evaluate) -> None:
    with pytest.raises(UserError, match="solver psld needs a linear operator, but jpeg is not linear: use ldps"):
        cell.replace({"solver.kind": "psld", "degradation.kind": "jpeg"})


@pytest.mark.parametrize("num_steps", [0, -3])
def test_a_grid_without_steps_is_refused(num_steps: int, cell: Evaluate) -> None:
    with pytest.raises(UserError, match=r"sampler\.num_steps"):
        cell.replace({"sampler.num_steps": num_steps})


def test_a_start_below_which_the_grid_has_no_step_is_refused(cell: Evaluate) -> None:
    with pytest.raises(UserError, match=r"start\.timestep = 0 is below 49, the last timestep of the grid of 20 steps"):
        cell.replace({"start.kind": "fixed", "start.timestep": 0})
    assert cell.replace({"start.kind": "fixed", "start.timestep": 49}).start.kind == "fixed"


@pytest.mark.parametrize("control", ["timestep", "missing_noise", "permuted", "known_severity"])
@pytest.mark.parametrize("variance", ["encoder", "fused"])
def test_controls_of_a_start_cost_what_it_costs_on_the_same_measurements(
    control: str, variance: str, cell: Evaluate, runtime: Runtime
) -> None:
    matched = cell.replace({"start": SNRMatch(variance=variance), "sampler.num_steps": 500})
    stage = matched.replace({"start": {"kind": "equal_cost", "control": control, "of": matched.start}})
    stage = stage.replace({"start.num_val_images": 2})
    found, own = rows(stage, runtime), rows(matched, runtime)
    assert found["measurement_set"].tolist() == own["measurement_set"].tolist()
    assert found["s2"].tolist() == pytest.approx(own["s2"].tolist()), "the estimate is the same"
    step = own["flops"].diff().abs().max() / max(own["nfe"].diff().abs().max(), 1)
    nearest = 0.51 if control in ("timestep", "missing_noise") else 1.0  # few images: their mean moves in jumps
    assert abs(found["flops"].mean() - own["flops"].mean()) <= nearest * step * len(own) ** (control == "permuted")
    if control in ("timestep", "missing_noise"):
        assert found["nfe"].nunique() == 1


def test_a_control_of_another_encoder_choice_is_checked(cell: Evaluate) -> None:
    with pytest.raises(UserError, match="the split has"):
        cell.replace({"start": {"kind": "equal_cost", "control": "known_severity", "num_val_images": 10_000}}).check()


@pytest.mark.parametrize("shape", [(2, 16, 16), (5, 16, 16), (1, 16, 24)], ids=["complex", "multispectral", "wide"])
def test_images_of_any_shape_are_degraded_restored_and_drawn(
    shape: tuple[int, int, int], tmp_path: Path, runtime: Runtime
) -> None:
    channels, height, width = shape
    grey = np.load(write_images(tmp_path / "grey.npy")).astype(np.float32) / 255
    wide = np.concatenate([grey, grey[:, :, : width - 16]], axis=2)
    # the other channels are the same shapes in other lights
    images = np.stack([wide ** (1 + channel / 2) for channel in range(channels)], axis=-1)
    np.save(tmp_path / "images.npy", images)
    fields = {"data.size": [height, width], "data.channels": channels, "num_images": 4}
    stage = tiny_cell(tmp_path / "images.npy", **fields)
    stage.check()
    assert stage.relative_cost() > 0
    folder = stage.ensure(runtime)
    found = pd.read_parquet(folder / ROWS)
    assert COLUMNS <= set(found.columns) <= COLUMNS | {"lpips"}
    assert np.isfinite(found.select_dtypes("number").to_numpy()).all()
    kept = load_file(folder / EXAMPLES)["restored"]
    assert kept.shape == (4, *shape)
    picture = shown(kept[0].permute(1, 2, 0).numpy() / 255)
    assert picture.shape == (height, width, 1)
    if channels != 1:
        assert "lpips" not in found
        assert (folder / LPIPS_ABSENT).read_text() == (
            f"LPIPS compares greyscale or colour images, but these have {channels} channels"
        )
    sheet = contact_sheet(
        stage.data,
        lambda x, severity, ids: stage.degradation.measure(x, severity, ids, 0).encoder_input(),
        tmp_path / "sheet.png",
        num_images=2,
    )
    assert sheet.stat().st_size > 1000


def test_the_best_of_several_draws_is_kept_and_all_are_counted(cell: Evaluate, runtime: Runtime) -> None:
    one = cell.replace({"degradation.kind": "phase_retrieval", "start.kind": "full"})
    several = one.replace({"num_draws": 3})
    single, best = rows(one, runtime), rows(several, runtime)
    assert set(best.columns) - set(single.columns) == {"draw"}
    assert best["draw"].between(0, 2).all()
    assert (best["nfe"] == 3 * single["nfe"]).all()
    assert best["flops"].to_numpy() == pytest.approx(3 * single["flops"].to_numpy())
    assert (best["residual_ratio"] <= single["residual_ratio"] + 1e-4).all()
    assert (best["residual_ratio"] < single["residual_ratio"] - 1e-4).any()
    assert several.relative_cost() > 2 * one.relative_cost()


def test_draws_are_no_part_of_the_identity_unless_there_are_several(cell: Evaluate) -> None:
    assert "num_draws" not in cell.canonical()
    assert cell.replace({"num_draws": 1}).identity == cell.identity
    assert cell.replace({"num_draws": 2}).identity != cell.identity


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_draws": 0}, "num_draws: input should be"),
        ({"num_draws": 2, "solver.kind": "decode_only"}, "all draws are the same: set num_draws=1"),
        ({"num_draws": 2, "start.kind": "equal_cost"}, "start.kind=equal_cost .*: set num_draws=1"),
    ],
)
def test_draws_that_mean_nothing_are_refused(overrides: dict[str, object], message: str, cell: Evaluate) -> None:
    with pytest.raises(UserError, match=message):
        cell.replace(overrides)


def test_what_magnitudes_cannot_tell_is_resolved_before_metrics(cell: Evaluate, runtime: Runtime) -> None:
    stage = cell.replace({"degradation.kind": "phase_retrieval", "num_images": 20, "degradation.noise_std": 0.01})
    found = rows(stage, runtime)
    kept = load_file(stage.ensure(runtime) / EXAMPLES)
    x = cell.data.split("test").first(20).batch(slice(None))
    for column, name in (("psnr", "restored"), ("psnr_decoded", "decoded"), ("psnr_degraded", "degraded")):
        shown_image = kept[name] / 255
        as_it_is, turned = psnr(shown_image, x), psnr(shown_image.flip(2, 3), x)
        assert (as_it_is >= turned - 1e-2).all()
        assert found[column].to_numpy() == pytest.approx(as_it_is.numpy(), abs=2e-2)
    ids = cell.data.split("test").first(20).ids
    view = stage.degradation.measure(x, stage.degradation.draw_severity(ids, 0), ids, 0).encoder_input()
    assert (psnr(view.flip(2, 3), x) > psnr(view, x)).any(), "else the test shows nothing"
