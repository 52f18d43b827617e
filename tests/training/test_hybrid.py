"""Training a converted network as a whole: `fit` on a module that holds an SNN."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import LCP, IFNeuron, SpikeNorm, calibrate
from snn_lightning.errors import SettingsError
from snn_lightning.spiking import Neuron, register_neuron
from snn_lightning.training import ClassificationModule, FineTuning
from tests.commands import QUIET, SMALL, run
from tests.toys import TOYS, inputs, toy

TRAINED = ["finetune.epochs=2", "finetune.learning_rate=0.01"]


def module_and_images() -> tuple[ClassificationModule, Tensor, Tensor]:
    """A module with an untrained SNN, and images whose brightest quarter is their class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = ClassificationModule({"name": "resnet20", "width": 4}, 4, 1, 8, learning_rate=0.05)
        images, labels = torch.rand(64, 1, 8, 8) * 0.3, torch.arange(64) % 4
        for image, label in zip(images, labels, strict=True):
            image[:, label // 2 * 4 :][:, :4, label % 2 * 4 :][..., :4] += 1
        module.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    module.net = calibrate(module.net, [images], SpikeNorm(4), progress=False)
    return module, images, labels


def fit(folder: Path, module: ClassificationModule, loader: DataLoader, epochs: int = 15) -> None:
    quiet = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    Trainer(default_root_dir=folder, accelerator="cpu", max_epochs=epochs, **quiet).fit(module, loader)


def accuracy(module: ClassificationModule, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (module.net(images).argmax(1) == labels).double().mean().item()


def test_fit_trains_the_weights_of_a_spiking_network_and_nothing_else(tmp_path: Path) -> None:
    module, images, labels = module_and_images()
    before = {name: value.clone() for name, value in module.net.state_dict().items()}
    start = accuracy(module, images, labels)
    fit(tmp_path, module, DataLoader(TensorDataset(images, labels), 16, shuffle=True))
    assert accuracy(module, images, labels) >= max(0.9, start + 0.2)
    changed = {
        name for name, value in module.net.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {name for name, _ in module.net.named_parameters()}
    assert not any(parameter.requires_grad for parameter in module.net.parameters())


@pytest.mark.parametrize("cls", TOYS)
def test_every_weight_of_a_spiking_network_gets_a_gradient(cls: type[nn.Module]) -> None:
    model = calibrate(toy(cls), [inputs(cls, 6)], LCP(4), progress=False)
    expected = model(inputs(cls, 6))
    output = model.requires_grad_()(inputs(cls, 6))
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("spiking", [True, False])
def test_unlabelled_images_are_refused(tmp_path: Path, spiking: bool) -> None:
    module, images, _ = module_and_images()
    if not spiking:
        module = ClassificationModule({"name": "resnet20", "width": 4}, 4, 1, 8)
    with pytest.raises(
        SettingsError, match=r"Training needs labels: batches .* Only calibration takes unlabelled"
    ):
        fit(tmp_path, module, DataLoader(images, 16))
    with pytest.raises(SettingsError, match="gives lists without"):
        fit(tmp_path, module, DataLoader(TensorDataset(images), 16))


@register_neuron
@dataclass(frozen=True)
class Untrainable(Neuron):
    """A kind that does not say that gradients pass."""

    def build(self) -> IFNeuron:
        return IFNeuron()


def test_neurons_without_a_surrogate_are_refused(tmp_path: Path) -> None:
    module, images, labels = module_and_images()
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    module.net = calibrate(ann, [images], LCP(4, neuron=Untrainable()), progress=False)
    with pytest.raises(
        SettingsError, match=r"Untrainable\(\) has no surrogate gradient, which training needs"
    ):
        fit(tmp_path, module, DataLoader(TensorDataset(images, labels), 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, r"finetune\.epochs must be a whole number of at least 0, got -1"),
        ({"epochs": 1.5}, r"finetune\.epochs must be a whole number of at least 0, got 1.5"),
        ({"epochs": True}, r"finetune\.epochs"),
        ({"learning_rate": 0}, r"finetune\.learning_rate must be a positive number, got 0"),
        ({"learning_rate": float("inf")}, r"finetune\.learning_rate must be a positive number, got inf"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FineTuning(**settings)


def test_a_calibrated_network_is_trained_from_the_command_line(tmp_path: Path, cache: Path) -> None:
    done = run(tmp_path, *SMALL, *QUIET, "pipeline=lcp", "T=4", *TRAINED, cache=cache)
    assert done.code == 0, done.output
    results = done.results
    assert results["snn_accuracy"] > results["converted_accuracy"]
    assert results["accuracy_over_time"][-1] == results["snn_accuracy"]
    assert {"finetune", "finetuned_test"} <= results["seconds"].keys()
    again = run(tmp_path / "again", *SMALL, *QUIET, f"ckpt={tmp_path / 'snn.ckpt'}", cache=cache)
    assert again.results["snn_accuracy"] == results["snn_accuracy"]


def test_several_processes_are_refused_before_anything_is_trained(tmp_path: Path, cache: Path) -> None:
    done = run(tmp_path, *SMALL, "pipeline=hybrid", "trainer=ddp", "trainer.accelerator=cpu", cache=cache)
    assert done.code != 0
    assert "finetune.epochs trains on one process" in done.output


def test_qcfs_from_the_command_line(tmp_path: Path, cache: Path) -> None:
    done = run(tmp_path, *SMALL, *QUIET, "pipeline=qcfs", "model.activation.cap=4", "T=16", cache=cache)
    assert done.code == 0, done.output
    thresholds = [value for key, value in done.state.items() if key.endswith(".v_th")]
    assert len(thresholds) == 13
    # They have been trained away from where they started.
    assert all(v_th.dim() == 0 and v_th > 0 and v_th != 4 for v_th in thresholds)
    assert done.results["snn_accuracy"] > 0.25


def test_a_missing_cap_is_said_before_the_pretraining(tmp_path: Path, cache: Path) -> None:
    done = run(tmp_path, *SMALL, "pipeline=qcfs", "activation=relu", "seed=7", cache=cache)
    assert done.code != 0
    assert "The site 'features.2' has no cap" in done.output
    assert "Pretraining" not in done.output
