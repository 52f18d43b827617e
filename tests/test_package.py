import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import snn_lightning

ROOT = Path(__file__).parents[1]


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORTS = """
import sys
sys.modules["torchvision"] = None  # as if it were not installed
import snn_lightning
print("matplotlib" in sys.modules)
for name in snn_lightning.__all__:
    if name not in ("CalibrationCallback", "log_report", "synthesise"):
        getattr(snn_lightning, name)
heavy = ("lightning", "pytorch_lightning", "hydra", "omegaconf", "torchmetrics", "sklearn", "wandb")
print(",".join(name for name in (*heavy, "matplotlib.pyplot") if name in sys.modules))
import torch
snn_lightning.convert(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), torch.ones(1, 3), 2)
del sys.modules["torchvision"]
from snn_lightning.report import *
from snn_lightning.thresholds.errors import threshold_errors
from snn_lightning.report.compare.methods import Method, Panel
from snn_lightning.report.compare.runs import Run
run = Run("results.json", {"snn_accuracy": 0.7, "ann_accuracy": 0.9, "energy_ratio": 0.2}, 0.0)
compared = [Panel("vgg16", "digits", "accuracy", [], [Method("lcp", {}, {4: [run]})])]
plot_accuracy(compared)
plot_accuracy_against_energy(compared)
plot_threshold_errors(threshold_errors(torch.rand(8, 2), [2, 4]))
plot_spikes({"relu": torch.ones(2, 1, 3)})
save_figure(plot_channel_errors({"lcp": {"relu": torch.rand(8)}}), sys.argv[1])
print("matplotlib.pyplot" in sys.modules)
snn_lightning.CalibrationCallback
print("lightning" in sys.modules, "hydra" in sys.modules)
"""


def test_lightning_comes_with_the_callback_alone_pyplot_never_and_torchvision_isnt_needed(
    tmp_path: Path,
) -> None:
    matplotlib, heavy, pyplot, after = run(IMPORTS, str(tmp_path / "errors")).split("\n")
    assert matplotlib == "False"  # it comes with write_report alone
    assert heavy == ""
    assert pyplot == "False"
    assert (tmp_path / "errors.svg").is_file()
    assert after == "True False"


def test_every_public_name_is_there() -> None:
    assert sorted(snn_lightning.__all__) == sorted(set(snn_lightning.__all__))
    for name in snn_lightning.__all__:
        assert getattr(snn_lightning, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'snn_lightning' has no attribute 'nothing'"):
        _ = snn_lightning.nothing


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.]+\d+)?", snn_lightning.__version__)


def test_the_package_has_the_version_of_its_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = (ROOT / settings["tool"]["hatch"]["version"]["path"]).read_text()
    assert f'"{snn_lightning.__version__}"' in version


IMPORT = re.compile(r"^\s*(?:from|import) snn_lightning\.(\w+)", re.MULTILINE)
LIBRARY = re.compile(r"^\s*(?:from|import) (lightning|hydra|omegaconf|torchmetrics)\b", re.MULTILINE)
LOWEST = ("errors", "files", "plugins", "settings", "tables", "transforms", "version")
BELOW = {
    "graph": set(),
    "spiking": {"graph"},
    "thresholds": {"graph", "spiking"},
    "analysis": {"graph", "spiking"},
    "calibration": {"graph", "spiking", "thresholds", "analysis"},
    "report": {"graph", "spiking", "thresholds", "analysis"},
    "synthesis": {"graph"},
}


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_one_way(room: str) -> None:
    for path in (ROOT / "snn_lightning" / room).rglob("*.py"):
        text = path.read_text()
        others = set(IMPORT.findall(text)) - {room, *LOWEST}
        assert others <= BELOW[room], path.name
        assert not LIBRARY.search(text), path.name
