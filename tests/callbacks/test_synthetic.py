"""Calibration images that the callback makes from the module's own network, or draws as noise."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import LCP, CalibrationCallback, SpikingModel, Synthesis, calibrate
from snn_lightning.callbacks.synthetic import ImageForm, make_images
from snn_lightning.data import DataSettings
from snn_lightning.data.unlabelled import Noise
from snn_lightning.errors import CalibrationError, SettingsError
from tests.calibration.support import same_bits
from tests.callbacks.modules import Classifier, make_trainer

FORM = ImageForm(8, 1, [0.5], [0.25])
FEW = Synthesis(iterations=2, batch_size=4, seed=3)


def network() -> nn.Module:
    """A trained one: its batch norm has seen something."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    net(torch.randn(32, 1, 8, 8))
    return net.eval()


class Photos(LightningDataModule):
    """Says what its images are like, and has no calibration images."""

    image_size, in_channels, mean, std = 8, 1, [0.5], [0.25]

    def __init__(self, count: int | None = 10) -> None:
        super().__init__()
        self.settings = DataSettings(calibration_images=count)

    def train_dataloader(self) -> Any:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(16, 1, 8, 8, generator=generator)
        return DataLoader(TensorDataset(images, torch.arange(16) % 3), batch_size=16)

    predict_dataloader = test_dataloader = train_dataloader


class StepsAlone(LightningModule):
    """Has no forward of its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def on_train_batch_end(self, *args: Any) -> None:
        """Keep a copy of the ANN as the training left it."""
        self.copies = [network()]
        self.copies[0].load_state_dict(self.net.state_dict())

    @property
    def trained(self) -> nn.Module:
        return self.copies[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class WithForward(StepsAlone):
    """Has one."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Communicator(SimpleNamespace):
    """Of one of several threads."""

    def barrier(self) -> None:
        self.meeting.wait(10)


def communicators(count: int) -> list[Any]:
    meeting = threading.Barrier(count)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return [
        Communicator(rank=rank, world_size=count, meeting=meeting, strategy=strategy) for rank in range(count)
    ]


def made(cache: Path, processes: int = 1, settings: Synthesis = FEW, form: ImageForm = FORM) -> list[Any]:
    found: list[Any] = [None] * processes
    net = network()

    def run(communicator: Any) -> None:
        found[communicator.rank] = make_images(net, 10, form, settings, cache, communicator)

    threads = [threading.Thread(target=run, args=(one,)) for one in communicators(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_any_number_of_processes_makes_the_same_images(tmp_path: Path) -> None:
    (alone,) = made(tmp_path / "one")
    assert alone.images.shape == (10, 1, 8, 8)
    for one in made(tmp_path / "three", processes=3):
        assert torch.equal(one.images, alone.images)
    with Image.open(alone.contact_sheet) as sheet:
        assert sheet.size == (8 * 10 + 2, 2 * 10 + 2)


def test_images_are_made_once_for_each_network_settings_and_form(tmp_path: Path) -> None:
    made(tmp_path)
    (folder,) = tmp_path.iterdir()
    pixel = folder / "image_00003.png"
    Image.new("L", (8, 8), 255).save(pixel)
    again = made(tmp_path)[0].images
    assert again[3].unique().tolist() == [(1 - 0.5) / 0.25]  # read, not made
    made(tmp_path, settings=Synthesis(iterations=2, batch_size=4, seed=4))
    made(tmp_path, form=ImageForm(8, 1, [0.5], [0.5]))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("kind", [WithForward, StepsAlone])
@pytest.mark.parametrize("source", ["synthetic", "noise"])
def test_fit_calibrates_on_images_of_the_module(tmp_path: Path, kind: type[StepsAlone], source: str) -> None:
    module = kind(network())
    pipeline = LCP(2, seed=3)
    callback = CalibrationCallback(pipeline, FEW if source == "synthetic" else source)
    make_trainer(tmp_path, callback).fit(module, datamodule=Photos())
    assert isinstance(module.net, SpikingModel)
    if source == "noise":
        images = torch.stack(list(Noise(10, (1, 8, 8), seed=3)))
    else:
        reader = WithForward(module.trained) if kind is WithForward else module.trained
        one = communicators(1)[0]
        images = make_images(reader.eval(), 10, FORM, FEW, tmp_path / "own", one).images
        assert len(list((tmp_path / "synthetic").iterdir())) == 1
    assert same_bits(module.net, calibrate(module.trained, [images], pipeline, progress=False))


@pytest.mark.parametrize(("source", "count"), [("noise", None), (FEW, 10)])
def test_an_evaluation_calibrates_on_256_images_or_as_many_as_the_data_say(
    tmp_path: Path, source: Any, count: int | None
) -> None:
    module = Classifier(network())
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(2), source))
    trainer.predict(module, datamodule=Photos(count))
    assert module.net.records[0]["images"] == (count or 256)


def test_sizes_and_normalisations_of_other_types(tmp_path: Path) -> None:
    data = SimpleNamespace(image_size=(8, 8), in_channels=1, mean=torch.tensor([0.5]), std=0.25)
    form = ImageForm.of(data)
    assert form.shape == (1, 8, 8)
    assert torch.equal(made(tmp_path, form=form)[0].images, made(tmp_path)[0].images)


def test_what_the_images_are_like_must_be_known_before_a_training(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(2), "synthetic"))
    module = Classifier(network())
    with pytest.raises(CalibrationError, match=r"there is no DataModule: .* images = synthesise\(model, 256"):
        trainer.fit(module, Photos().train_dataloader())
    data = Photos()
    data.mean = None  # type: ignore[assignment]
    with pytest.raises(CalibrationError, match=r"Photos has no mean: give the Trainer a DataModule with"):
        make_trainer(tmp_path, CalibrationCallback(LCP(2), "synthetic")).fit(module, datamodule=data)


def test_a_network_without_batch_norm(tmp_path: Path) -> None:
    module = Classifier(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)))
    trainer = make_trainer(tmp_path, CalibrationCallback(LCP(2), "synthetic"))
    with pytest.raises(CalibrationError, match="no batch norm"):
        trainer.predict(module, datamodule=Photos())


def test_wrong_settings() -> None:
    with pytest.raises(
        SettingsError, match="calibration_dataloader must be 'synthetic' or 'noise', got 'real'"
    ):
        CalibrationCallback(LCP(2), "real")
    with pytest.raises(
        SettingsError, match=r"inputs is a function of the batches of a loader.*: leave it out"
    ):
        CalibrationCallback(LCP(2), "synthetic", inputs=lambda batch: batch)
