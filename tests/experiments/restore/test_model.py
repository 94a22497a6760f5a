"""Restoring with somebody else's model: every class, and the shipped pair in a folder that somebody else made."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.data import NoImages
from workbench.experiments.restore import Request, restore, restoring_cell
from workbench.experiments.settings import with_clean_images, with_model
from workbench.notebook import load_restorer
from workbench.stages.runtime import Runtime
from workbench.weights import zoo

PAIR = zoo.zoo_root() / "tiny_imagenet_64_patch"
STEPS = 4
FULL = {"start.kind": "full", "sampler.num_steps": STEPS, "data.kind": "none", "data.size": 16}
HALF = {**FULL, "start.kind": "fixed", "start.timestep": 500, "sampler.num_steps": 2 * STEPS}
"""As many steps, of the second half of a chain: from pure noise, DiT's noise levels amplify random answers."""
EVERY = ("ldm", "stable_diffusion", "sdxl", "dit", "sd3", "flux")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of different sizes, one of them grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    Image.fromarray(noise.integers(60, 200, (20, 27, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(noise.integers(60, 200, (16, 16), dtype=np.uint8)).save(folder / "b.png")
    return folder


def restored(pictures: Path, output: Path, runs: Path, overrides: dict[str, Any], batch_size: int = 4) -> pd.DataFrame:
    """The table of the restored pictures."""
    cell = restoring_cell("gaussian_blur", EncoderChoice.NONE, None, overrides)
    restore(cell, Request(pictures, output, 0.5), Runtime(runs, batch_size=batch_size))
    return pd.read_csv(output / "restored.csv")


@pytest.mark.parametrize("solver", ["ldps", "psld", "ldps_few", "mmps"])
@pytest.mark.parametrize("name", EVERY)
def test_every_class_restores_any_size(name: str, solver: str, pictures: Path, tmp_path: Path) -> None:
    folder = tiny_models.saved(getattr(tiny_models, name)(), tmp_path / "model")
    if name == "dit":  # takes square latents
        Image.open(pictures / "a.png").crop((0, 0, 20, 20)).save(pictures / "a.png")
    rows = restored(
        pictures,
        tmp_path / "out",
        tmp_path / "runs",
        with_model({**(HALF if name == "dit" else FULL), "solver.kind": solver}, str(folder)),
    )
    assert ((rows["nfe"] == STEPS) | rows["diverged"]).all()
    assert not rows["diverged"].all()
    for path in pictures.iterdir():
        with Image.open(path) as before, Image.open(tmp_path / "out" / path.name) as after:
            assert (after.size, after.mode) == (before.size, before.mode)


def test_guidance_counts_twice(pictures: Path, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.stable_diffusion(), tmp_path / "model")
    told = {**FULL, "prior.prompt": "the sea", "prior.cfg_scale": 2.0}
    rows = restored(pictures, tmp_path / "out", tmp_path / "runs", with_model(told, str(folder)))
    assert rows["nfe"].tolist() == [2 * STEPS, 2 * STEPS]


def test_the_shipped_pair_as_an_ldm_folder_restores_as_it_does_natively(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(PAIR / "unet", folder / "unet")
    shutil.copytree(PAIR / "scheduler", folder / "scheduler")
    shutil.copytree(PAIR / "autoencoder", folder / "vae")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LDMPipeline"}))
    tables = [
        restored(pictures, tmp_path / f"out{i}", tmp_path / "runs", with_model({}, model)).drop(columns="seconds")
        for i, model in enumerate((None, str(folder)))
    ]
    pd.testing.assert_frame_equal(*tables)
    for path in pictures.iterdir():
        assert (tmp_path / "out0" / path.name).read_bytes() == (tmp_path / "out1" / path.name).read_bytes()


def test_a_part_of_a_model_names_the_whole(tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "my model")
    for part in (folder / "unet", folder / "model_index.json", *(folder / "unet").glob("*.safetensors")):
        with pytest.raises(UserError, match=r"is a part of a model: name its folder, .*my model$"):
            with_model({}, str(part))
    with pytest.raises(UserError, match="--model is empty"):
        with_model({}, "")


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors", "folder"])
def test_a_model_in_one_file_is_converted_first(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        path, config = path, path / "config.yaml"
        (path / "model.ckpt").touch()
        config.touch()
    else:
        path.touch()
        config = "CONFIG.yaml"
    file = path / "model.ckpt" if name == "folder" else path
    command = f"python -m workbench import {file} --config {config} --output NEW_FOLDER converts a CompVis checkpoint"
    with pytest.raises(UserError, match=re.escape(command)):
        with_model({}, str(path))


def test_an_inpainting_network_is_named_as_one(pictures: Path, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.stable_diffusion(), tmp_path / "model")
    config = json.loads((folder / "unet" / "config.json").read_text())
    unet = UNet2DConditionModel.from_config({**config, "in_channels": 9})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="takes 9 channels for latents of 4, as one for inpainting"):
        restored(pictures, tmp_path / "out", tmp_path / "runs", with_model(FULL, str(folder)))


def test_clean_images_of_a_study_are_named_and_have_the_models_size(tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    with pytest.raises(UserError, match=r"add --data\.kind=image_folder --data\.path=FOLDER \(made 16 x 16"):
        with_clean_images(with_model({}, str(folder)))
    own = {"data.kind": "image_folder", "data.path": "photos"}
    assert with_clean_images(with_model(own, str(folder)))["data.size"] == 16
    assert with_clean_images(with_model({**own, "data.size": 24}, str(folder)))["data.size"] == 24
    assert "data.size" not in with_clean_images(with_model({"data.kind": "tiny_imagenet"}, str(folder)))
    assert with_clean_images({"solver.kind": "ldps"}) == {"solver.kind": "ldps"}


def test_settings_of_a_fitted_encoder_choose_it(tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    given = with_model({"severity_encoder.images": "prior"}, str(folder))
    cell = restoring_cell("gaussian_blur", EncoderChoice.AUTO, None, given)
    assert (cell.severity_encoder.kind, getattr(cell.severity_encoder, "images", None)) == ("quick", "prior")


def test_a_restorer_in_python(tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    restorer = load_restorer(encoder="none", model=folder, overrides=FULL, runs=tmp_path / "runs")
    assert restorer.autoencoder.image_channels == 3
    x = torch.rand(1, 3, 16, 16)
    y = restorer.degradation.measure(x, torch.tensor([0.5]), torch.tensor([1]), seed=0)
    assert restorer.restore_all(y).x_hat.shape == x.shape


def test_overrides_take_precedence_and_revisions_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "a@b")
    settings = with_model({"autoencoder.scaling": "measured"}, str(folder))
    assert (settings["prior.source"], settings["autoencoder.scaling"]) == (str(folder), "measured")
    asked: list[tuple[str, str | None]] = []

    def download(name: str, revision: str | None = None, **_: Any) -> str:
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    settings = with_model({}, "somebody/ldm@v2")
    assert asked == [("somebody/ldm", "v2")]
    assert (settings["prior.source"], settings["prior.revision"], settings["autoencoder.subfolder"]) == (
        "somebody/ldm",
        "v2",
        "vqvae",
    )


def test_without_clean_images_samples_have_the_models_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    monkeypatch.setattr("workbench.data.TinyImageNet.is_present", lambda _: False)
    cell = restoring_cell("gaussian_blur", EncoderChoice.AUTO, None, with_model({}, str(folder)))
    assert cell.data == NoImages(size=16)
    assert getattr(cell.severity_encoder, "images", None) == "prior"
    with pytest.raises(UserError, match="this needs clean images: add --data"):
        cell.data.split("train")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/no/such/folder", "there is no folder /no/such/folder: a model is a folder"),
        ("somebody/model", "'somebody/model' is neither a folder nor a model found on the Hub"),
        ("somebody/model@v3", "'somebody/model' is neither a folder nor a model found on the Hub at v3"),
    ],
)
def test_a_model_that_does_not_exist_is_one_line(model: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        with_model({}, model)
    assert "\n" not in str(raised.value)
