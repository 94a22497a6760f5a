"""Other people's files as diffusers folders: networks answer as the original code did, and bad files are one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import yaml
from torch import Tensor

from workbench.autoencoders import Pretrained
from workbench.core.config import UserError
from workbench.diffusion import PretrainedPrior
from workbench.weights.checkpoint import read_checkpoint
from workbench.weights.compvis import read_config
from workbench.weights.importing import import_compvis, import_pickled
from workbench.weights.model import read_model

MODELS = ("vq_f4", "kl_f8")


@pytest.fixture
def files(shared: Path) -> Callable[[str], tuple[Path, Path, dict[str, Tensor]]]:
    """(checkpoint, config, inputs and outputs of the original code) of one of the development models."""

    def read(name: str) -> tuple[Path, Path, dict[str, Tensor]]:
        folder = shared / "data/compvis" / name
        with np.load(folder / "io.npz") as stored:
            return folder / "model.ckpt", folder / "config.yaml", {k: torch.from_numpy(v) for k, v in stored.items()}

    return read


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_networks_answer_as_the_original_code_did(
    name: str, files: Callable[[str], tuple[Path, Path, dict[str, Tensor]]], tmp_path: Path
) -> None:
    checkpoint, config, known = files(name)
    said: list[str] = []
    import_compvis(checkpoint, config, tmp_path / "model", said.append)
    assert "the moving average of its weights" in said[0]
    model = read_model(str(tmp_path / "model"))
    autoencoder = Pretrained(source=str(model.root), subfolder=model.autoencoder, scaling="config").build(3)
    assert autoencoder.scale == pytest.approx(float(known["scale_factor"]))
    scale = float(known["scale_factor"])
    raw = known["latent"] if name == "kl_f8" else known["latent"] / scale
    assert (autoencoder.encode((known["x"] + 1) / 2) - scale * raw).abs().max() < 1e-5
    # the images are on [-1, 1] there
    assert (autoencoder.decode(scale * raw) - (known["decoded"] + 1) / 2).abs().max() < 1e-5
    prior = PretrainedPrior(source=str(model.root)).load(model.root)
    assert (prior.answer(known["z"], known["t"].double()) - known["eps_ema"]).abs().max() < 1e-5
    alpha_bar = prior.levels.alpha_bar_at(torch.arange(1000).double())
    assert (alpha_bar - known["alphas_cumprod"].double()).abs().max() < 1e-5


@pytest.mark.shared
def test_a_config_of_another_model_is_refused(
    files: Callable[[str], tuple[Path, Path, dict[str, Tensor]]], tmp_path: Path
) -> None:
    checkpoint, config, _ = files("vq_f4")
    for name, old, new, message in (
        ("betas", "linear_end: 0.0195", "linear_end: 0.012", "another model's config"),
        ("width", "model_channels: 32", "model_channels: 64", "do not fit the config|do not belong together"),
        ("depth", "num_res_blocks: 1", "num_res_blocks: 2", "do not fit the config|do not belong together"),
        ("number", "timesteps: 1000", "timesteps: 500", "has 500 timesteps, but the checkpoint was trained with 1000"),
    ):
        changed = tmp_path / f"{name}.yaml"
        changed.write_text(config.read_text().replace(old, new))
        with pytest.raises(UserError, match=message) as raised:
            import_compvis(checkpoint, changed, tmp_path / "model", lambda _: None)
        assert "\n" not in str(raised.value)
        assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".yaml") == [], "nothing half-made stays"


def config_of(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A config of an unconditional model, changed."""
    params: dict[str, Any] = {
        "cond_stage_config": "__is_unconditional__",
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": {}},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": {}},
    }
    content = {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}
    change(content["model"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "target": (lambda m: m.update(target="ldm.models.autoencoder.VQModel"), "only ldm.models.diffusion.ddpm"),
    "params": (lambda m: m.pop("params"), "has no params"),
    "text": (
        lambda m: m["params"].update(cond_stage_config={"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"}),
        "conditioned by ldm.modules.encoders.modules.FrozenCLIPEmbedder, which is not translated: use the model in",
    ),
    "unet": (lambda m: m["params"]["unet_config"].update(target="my.UNet"), "the denoiser is a my.UNet"),
    "attention": (
        lambda m: m["params"]["unet_config"]["params"].update(use_spatial_transformer=True),
        "use_spatial_transformer True means that it attends to a text",
    ),
    "autoencoder": (lambda m: m["params"]["first_stage_config"].update(target="my.VAE"), "the first stage is a my.VAE"),
    "nothing": (lambda m: m.clear(), "has no params"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_not_translated_is_named(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_config(config_of(tmp_path, change))


@pytest.mark.parametrize("content", ["", "[1, 2", "a: 1", "- 1", "!!python/object/apply:os.system ['true']"])
def test_a_config_that_is_none_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as raised:
        read_config(path)
    assert "\n" not in str(raised.value)


def test_pickled_weights_of_a_folder(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tiny_models.saved(tiny_models.stable_diffusion(), tmp_path / "safe")
    pickled = tmp_path / "pickled"
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        target = pickled / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".safetensors":
            target.write_bytes(path.read_bytes())
            continue
        name = "pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"
        torch.save(load_file(path), target.with_name(name))
    with pytest.raises(UserError, match="is pickled"):
        read_model(str(pickled))
    import_pickled(pickled, tmp_path / "new", lambda _: None)
    x, time = torch.ones(1, 4, 8, 8), torch.tensor([300.0])
    answers = [PretrainedPrior(source=str(f)).load(f).answer(x, time) for f in (folder, tmp_path / "new")]
    assert torch.equal(*answers)
    with pytest.raises(UserError, match="exists: name a new folder"):
        import_pickled(pickled, tmp_path / "new", lambda _: None)
    with pytest.raises(UserError, match=r"has no pickled weights"):
        import_pickled(folder, tmp_path / "other", lambda _: None)


@pytest.mark.shared
def test_a_checkpoint_in_safetensors(
    files: Callable[[str], tuple[Path, Path, dict[str, Tensor]]], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    checkpoint, config, _ = files("kl_f8")
    tensors = {name: tensor.clone().contiguous() for name, tensor in read_checkpoint(checkpoint).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    for source, name in ((checkpoint, "one"), (tmp_path / "model.safetensors", "other")):
        import_compvis(source, config, tmp_path / name, lambda _: None)
    for path in (tmp_path / "one").rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*cut\.safetensors .*: download it again"):
        import_compvis(tmp_path / "cut.safetensors", config, tmp_path / "new", lambda _: None)
