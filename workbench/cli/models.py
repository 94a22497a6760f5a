"""Pretrained models: bring other people's into a format that `--model` reads."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.options import app, home


@app.command("import")
def import_model(
    model: Annotated[
        Path,
        typer.Argument(
            help="a CompVis checkpoint (.ckpt or .safetensors), or a diffusers folder with pickled weights (.bin)",
            callback=home,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="the folder to make", show_default=False, callback=home)],
    config: Annotated[
        Path | None,
        typer.Option("--config", help="CompVis' config.yaml of the checkpoint", show_default=False, callback=home),
    ] = None,
) -> None:
    """Write a latent diffusion model as a diffusers folder. Only tensors are read; nothing in the file runs."""
    from workbench.core.config import UserError
    from workbench.weights.importing import import_compvis, import_pickled

    if not model.exists():
        raise UserError(f"there is no file or folder {model}")
    if model.is_dir():
        if config is not None:
            raise UserError("--config is for a checkpoint: a diffusers folder has its own configs")
        import_pickled(model, output, typer.echo)
    elif config is None:
        raise UserError(
            f"--config is missing: the YAML file that came with {model.name} (Stable Diffusion: use diffusers' "
            "from_single_file and save_pretrained instead)"
        )
    else:
        import_compvis(model, config, output, typer.echo)
