import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.data.module import StepDataModule, StepDataset
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.runtime import Runtime
from workbench.stages.train import train_autoencoder, train_prior, train_severity
from workbench.stages.train.train_prior import TrainPrior
from workbench.training.fit import CHECKPOINT, fit
from workbench.training.modules import TrainingModule

NUM_STEPS = 7
STEPS_PER_EPOCH = 2
EPOCHS = 4
KINDS = ("autoencoder", "prior", "severity")


class StoppedError(Exception):
    """What a test raises where a user would press Ctrl-C."""


class StopAfter:
    """Progress that raises in the middle of training, after so many of its epochs."""

    def __init__(self, description: str, epochs: int) -> None:
        self.description, self.epochs = description, epochs

    @contextmanager
    def task(self, description: str) -> Iterator:
        done = []

        def update(position: float, total: float, note: str = "") -> None:
            done.append(position)
            if description == self.description and len(done) == self.epochs:
                raise StoppedError

        yield update

    def say(self, line: str) -> None:
        """Nothing."""

    def show(self, table: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module", autouse=True)
def short_epochs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (train_autoencoder, train_prior, train_severity):
            patch.setattr(module, "STEPS_PER_EPOCH", STEPS_PER_EPOCH)
        yield


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    """Trains each network for seven steps, the last epoch a short one, the last pass over the images too."""
    networks = ("autoencoder", "prior", "severity_encoder")
    sizes = {f"{name}.batch_size": 32 for name in networks}
    return tiny_cell(images, **sizes, **{f"{name}.num_train_images": 32 * NUM_STEPS - 5 for name in networks})


@pytest.fixture(scope="module")
def undisturbed(cell: Evaluate, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    runtime = Runtime(tmp_path_factory.mktemp("undisturbed"))
    for stage in (cell.prior_stage(), cell.severity_stage()):
        stage.ensure(runtime)
    return runtime


def trained_stage(cell: Evaluate, kind: str) -> Stage:
    return {
        "autoencoder": cell.autoencoder_stage,
        "prior": cell.prior_stage,
        "severity": cell.severity_stage,
    }[kind]()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.relative_to(folder)}/{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def flip_in_the_middle(content: bytes) -> bytes:
    """One byte of the weights, changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_epoch_and_resumed_gives_the_same_weights_and_curve(
    kind: str, cell: Evaluate, undisturbed: Runtime, tmp_path: Path
) -> None:
    stage = trained_stage(cell, kind)
    expected = stage.ensure(undisturbed)
    upstream = {folder for part in stage.upstream() for folder in (part.ensure(undisturbed),)}
    for stops in ([1], [2], [EPOCHS], [2, 1, 1], [EPOCHS, 1]):
        root = tmp_path / "-".join(map(str, stops))
        for folder in upstream:
            shutil.copytree(folder, root / folder.relative_to(undisturbed.root))
        for epochs in stops:
            with pytest.raises(StoppedError):
                stage.ensure(Runtime(root, progress=StopAfter(f"training {stage.label}", epochs)))
            assert not stage.is_cached(Runtime(root))
        folder = stage.ensure(Runtime(root))
        found, wanted = weights(folder), weights(expected)
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), f"{name} after stops at {stops}"
        assert curve(folder) == curve(expected), f"after stops at {stops}"
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in expected.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_has_a_row_an_epoch(kind: str, cell: Evaluate, undisturbed: Runtime) -> None:
    folder = trained_stage(cell, kind).ensure(undisturbed)
    rows = curve(folder)
    assert [float(row["step"]) for row in rows] == [2, 4, 6, 7]
    for row in rows:
        for name, value in row.items():
            assert name.startswith(("train/", "val/", "step"))
            # a rank correlation is undefined as long as the head answers the same for all
            assert name == "val/spearman_s2" or torch.tensor(float(value)).isfinite()
    assert not list(folder.glob(f"{CHECKPOINT}*"))


def test_stopping_really_stops_and_leaves_a_checkpoint(cell: Evaluate, undisturbed: Runtime, tmp_path: Path) -> None:
    """Guards the test above: a resumed training must not begin again, nor have been finished before it was stopped."""
    stage = cell.autoencoder_stage()
    seen: list[float] = []

    class Recording(StopAfter):
        @contextmanager
        def task(self, description: str) -> Iterator:
            yield lambda done, total, note="": seen.append(done)

    with pytest.raises(StoppedError):
        stage.ensure(Runtime(tmp_path, progress=StopAfter(f"training {stage.label}", 3)))
    partial = stage.folder(Runtime(tmp_path)).with_suffix(".partial")
    assert (partial / CHECKPOINT).is_file()
    assert len(curve(partial)) == 3
    stage.ensure(Runtime(tmp_path, progress=Recording("", 0)))
    assert seen == [6, 7], "it goes on with the epoch that was not saved"


@pytest.mark.parametrize("harm", [lambda content: content[:-100], lambda content: b"", flip_in_the_middle])
def test_a_damaged_checkpoint_is_one_line(cell: Evaluate, tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    stage = cell.autoencoder_stage()
    with pytest.raises(StoppedError):
        stage.ensure(Runtime(tmp_path, progress=StopAfter(f"training {stage.label}", 2)))
    checkpoint = stage.folder(Runtime(tmp_path)).with_suffix(".partial") / CHECKPOINT
    checkpoint.write_bytes(harm(checkpoint.read_bytes()))
    with pytest.raises(UserError, match=f"{checkpoint} is damaged: delete it"):
        stage.ensure(Runtime(tmp_path))
    checkpoint.unlink()
    assert stage.ensure(Runtime(tmp_path)).is_dir()


class Harmful:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("part", [None, "loops", "callbacks", "hyper_parameters"])
def test_no_code_in_a_checkpoint_is_run(part: str | None, cell: Evaluate, tmp_path: Path) -> None:
    stage, trace = cell.autoencoder_stage(), tmp_path / "it ran"
    with pytest.raises(StoppedError):
        stage.ensure(Runtime(tmp_path, progress=StopAfter(f"training {stage.label}", 2)))
    checkpoint = stage.folder(Runtime(tmp_path)).with_suffix(".partial") / CHECKPOINT
    state = torch.load(checkpoint, weights_only=True)
    if part is None:
        torch.save(Harmful(trace), checkpoint)
    else:
        state.setdefault(part, {})["more"] = Harmful(trace)
        torch.save(state, checkpoint)
    with pytest.raises(UserError, match=f"{checkpoint} contains more than tensors and plain data, .*: delete it"):
        stage.ensure(Runtime(tmp_path))
    assert not trace.exists()
    torch.load(checkpoint, weights_only=False)
    assert trace.exists(), "it would have"


@pytest.mark.parametrize("harm", [lambda state: [state], lambda state: {}, lambda state: {**state, "epoch": "2"}])
def test_a_checkpoint_of_something_else_is_one_line(
    harm: Callable[[dict[str, Any]], Any], cell: Evaluate, tmp_path: Path
) -> None:
    stage = cell.autoencoder_stage()
    with pytest.raises(StoppedError):
        stage.ensure(Runtime(tmp_path, progress=StopAfter(f"training {stage.label}", 2)))
    checkpoint = stage.folder(Runtime(tmp_path)).with_suffix(".partial") / CHECKPOINT
    torch.save(harm(torch.load(checkpoint, weights_only=True)), checkpoint)
    with pytest.raises(UserError, match="is not a training checkpoint: delete it"):
        stage.ensure(Runtime(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_diverges_stops_in_one_line_and_is_no_artifact(
    kind: str, cell: Evaluate, undisturbed: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(Path(shutil.copytree(undisturbed.root, tmp_path / "runs")))
    network = {"severity": "severity_encoder"}.get(kind, kind)
    stage = trained_stage(cell.replace({f"{network}.learning_rate": 10}), kind)
    configured = TrainingModule.configure_optimizers

    def too_fast(module: TrainingModule) -> Any:
        module.learning_rate = 1e30  # no rate that a recipe takes diverges in so few steps
        return configured(module)

    monkeypatch.setattr(TrainingModule, "configure_optimizers", too_fast)
    for _ in ("at once", "gone on with"):
        with pytest.raises(
            UserError, match=rf"training of the {kind}.* diverged by step \d of {NUM_STEPS}: its loss is"
        ):
            stage.ensure(runtime)
    assert not stage.is_cached(runtime)


def test_weights_that_the_last_step_ruins_are_no_result(tmp_path: Path) -> None:
    """The root has no slope at zero: the only loss is 0, and what it leaves is not finite."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)

    def loss(batch: dict[str, Any], generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return network.weight.abs().sqrt().sum(), {}

    module = TrainingModule(network, loss, num_steps=1, learning_rate=0.1, seed=0)
    data = StepDataModule(4, 4, 1, 1, 0, lambda index, step: {"x": index, "step": step})
    with pytest.raises(UserError, match="training of the root diverged by step 1 of 1: its weights are not finite"):
        fit(module, data, tmp_path, label="root")


def test_the_average_and_not_the_last_weights_are_kept(cell: Evaluate, undisturbed: Runtime, tmp_path: Path) -> None:
    """With a decay of 0 the average is the last weights; a slow average must differ from it."""
    last = cell.replace({"prior.ema_decay": 0.0}).prior_stage()
    for part in last.upstream():
        folder = part.ensure(undisturbed)
        shutil.copytree(folder, tmp_path / folder.relative_to(undisturbed.root))
    kept = weights(cell.prior_stage().ensure(undisturbed))
    plain = weights(last.ensure(Runtime(tmp_path)))
    assert any(not torch.equal(kept[name], plain[name]) for name in kept)


def test_a_second_round_continues_from_the_first(cell: Evaluate, undisturbed: Runtime, tmp_path: Path) -> None:
    """With hardly any learning rate, its result is the average of the first round as saved, and not new weights."""
    shutil.copytree(undisturbed.root, tmp_path / "runs")
    still = cell.replace({"prior.rounds": 2, "prior.learning_rate": 1e-12, "prior.ema_decay": 0.0}).prior_stage()
    assert isinstance(still, TrainPrior)
    first = still.replace({"prior.rounds": 1})
    assert still.identity != first.identity
    shutil.copytree(
        cell.prior_stage().ensure(undisturbed), first.ensure(runtime := Runtime(tmp_path / "runs")), dirs_exist_ok=True
    )
    kept, continued = weights(first.ensure(runtime)), weights(still.ensure(runtime))
    for name, tensor in kept.items():
        torch.testing.assert_close(continued[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("field", ["seed", "learning_rate", "batch_size"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_the_weights_changes_the_identity(kind: str, field: str, cell: Evaluate) -> None:
    part = {"severity": "severity_encoder"}.get(kind, kind)
    changed = cell.replace({f"{part}.{field}": {"seed": 1, "learning_rate": 0.01, "batch_size": 8}[field]})
    assert trained_stage(changed, kind).identity != trained_stage(cell, kind).identity


def dataset(num_images: int, batch_size: int, steps: range, seed: int = 0) -> StepDataset:
    return StepDataset(num_images, batch_size, steps, seed, lambda index, step: {"index": index, "of": step})


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (10, 10), (7, 3), (5, 12), (3, 10), (1, 2)])
def test_batches_depend_on_seed_and_step_alone(num_images: int, batch_size: int) -> None:
    whole = list(dataset(num_images, batch_size, range(12)))
    assert [batch["step"] for batch in whole] == list(range(12)) == [batch["of"] for batch in whole]
    parts = [*dataset(num_images, batch_size, range(5)), *dataset(num_images, batch_size, range(5, 12))]
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one["index"], other["index"])
    backwards = dataset(num_images, batch_size, range(0))
    for step in reversed(range(12)):
        assert torch.equal(backwards.indices(step), whole[step]["index"])


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (10, 10), (7, 3), (5, 12), (3, 10)])
def test_each_pass_sees_each_image_once(num_images: int, batch_size: int) -> None:
    steps = range(3 * num_images)
    seen = torch.cat([batch["index"] for batch in dataset(num_images, batch_size, steps)])
    passes = seen[: len(seen) // num_images * num_images].reshape(-1, num_images)
    assert torch.equal(passes.sort(1).values, torch.arange(num_images).expand(len(passes), -1))


def test_orders_differ_between_passes_and_seeds() -> None:
    first, second = (batch["index"] for batch in dataset(50, 50, range(2)))
    (other,) = (batch["index"] for batch in dataset(50, 50, range(1), seed=1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
