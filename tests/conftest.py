"""What holds for every test: no W&B, no hub, a runs folder of its own, and (with --typecheck) checked shapes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from command_line import CommandLine, Trained

NOBODY = 65534
TESTS = Path(__file__).parent
BENCHMARKS = TESTS / "benchmarks"
LONG = [
    TESTS / name
    for name in (
        "test_notebooks.py",
        "experiments/test_tune.py",
        "studies",
        "test_cli.py",
        "test_outside.py",
        "tracking",
        "experiments",
        "reporting/test_browser.py",
    )
]
"""Files and folders of tests that take long, which are begun first: else one worker is left alone with the last."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--typecheck", action="store_true", help="check types and shapes at every call of what annotates tensors"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Tensors in tests are small: more threads, and processes that share the cores, only wait for each other.
    # Set before torch is imported, it holds for the processes that tests start too.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["WANDB_MODE"] = "disabled"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["WORKBENCH_ALLOW"] = "deepinv_factories,users_optics,broken_optics,no_such_module"
    if config.getoption("--typecheck"):
        from jaxtyping import install_import_hook
        from shape_checks import modules_with_shapes

        package = Path(__file__).parents[1] / "workbench"
        install_import_hook(modules_with_shapes(package), "shape_checks.check")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in tests/benchmarks, skip what needs data that is not there, and put what takes long first."""
    without_shared = pytest.mark.skip(reason="needs the development data: set WORKBENCH_SHARED to its folder")
    for item in items:
        if BENCHMARKS in item.path.parents:
            item.add_marker("benchmark")
        if item.get_closest_marker("shared") and not os.environ.get("WORKBENCH_SHARED"):
            item.add_marker(without_shared)
    items.sort(key=lambda item: not any(path in (item.path, *item.path.parents) for path in LONG))


@pytest.fixture(autouse=True, scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """WORKBENCH_RUNS for the session: tests never read or write the user's own runs."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("runs")
        patch.setenv("WORKBENCH_RUNS", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def no_downloads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Metrics of networks are absent in every test and its processes, whatever this machine has or can reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        for name in ("LPIPS_BACKBONE", "VGG16", "INCEPTION", "NIQE"):
            patch.delenv(f"WORKBENCH_{name}", raising=False)
        for name in ("https_proxy", "HTTPS_PROXY"):
            patch.setenv(name, "http://127.0.0.1:9")  # the port that discards: refused at once
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data, for tests marked `shared`."""
    return Path(os.environ["WORKBENCH_SHARED"])


@pytest.fixture(scope="session")
def photographs_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the photographs of Tiny ImageNet; the one in use, where it has them."""
    from workbench.core.places import data_root
    from workbench.data import TinyImageNet
    from workbench.data.tiny_imagenet import ARCHIVE

    if TinyImageNet().is_present():
        return data_root()
    folder = tmp_path_factory.mktemp("photographs")
    (folder / ARCHIVE).symlink_to(shared / "data" / ARCHIVE)
    return folder


@pytest.fixture
def photographs(photographs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photographs are there, for tests marked `shared`."""
    monkeypatch.setenv("WORKBENCH_DATA", str(photographs_folder))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .npy file of the smallest study: 200 grey images of 16 x 16."""
    from small_study import write_images

    return write_images(tmp_path_factory.mktemp("images") / "images.npy")


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    """A tiny pair and severity encoder, trained once; to be copied, never run in."""
    from command_line import train

    return train(tmp_path_factory.getbasetemp())


@pytest.fixture
def trained(trained_once: "Trained", tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    """The test's own copy of them: what it adds or damages, no other test sees."""
    return trained_once.copy(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever begins to train fails the test."""

    def fit(*_: object, **__: object) -> None:
        pytest.fail("training began")

    monkeypatch.setattr("workbench.training.fit.fit", fit)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "CommandLine":
    """The command line in this process, in a folder of its own and a wide terminal."""
    from command_line import CommandLine

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return CommandLine(capsys, monkeypatch)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that may be read and not written; root, who may write everywhere, acts as nobody for the while."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)
