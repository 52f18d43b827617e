"""Calibration images that a Trainer's processes make from the network itself, or that are noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.utils.data import DataLoader

from snn_lightning.callbacks.communicator import StrategyCommunicator
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.files import fingerprint, tensor_bytes
from snn_lightning.settings import check_choice, check_whole
from snn_lightning.synthesis.settings import Synthesis

COUNT, BATCH = 256, 128
"""Images, and images a batch, where the DataModule doesn't say it."""

MADE = ("synthetic", "noise")
"""What takes the place of a calibration loader."""


@dataclass(frozen=True)
class ImageForm:
    """What the images of a network are like.

    Args:
        size: H and W in pixels, or one number for both.
        channels: C.
        mean: what is subtracted from each channel, in 0…1; a number, or one a channel.
        std: what each channel is then divided by.

    Example:
        >>> from snn_lightning.data import Digits
        >>> ImageForm.of(Digits(image_size=8)).shape
        (1, 8, 8)
    """

    size: int | Sequence[int]
    channels: int
    mean: Any
    std: Any

    @classmethod
    def of(cls, data: Any) -> ImageForm:
        """Return that of a DataModule's images.

        Raises:
            CalibrationError: there is no DataModule, or it doesn't say it.
        """
        names = ("image_size", "in_channels", "mean", "std")
        values: list[Any] = [getattr(data, name, None) for name in names]
        if missing := [name for name, value in zip(names, values, strict=True) if value is None]:
            whose = "there is no DataModule" if data is None else f"{type(data).__name__} has no"
            raise CalibrationError(
                "To make calibration images, their size, channels and normalisation must be known, and "
                f"{whose}{'' if data is None else ' ' + ', '.join(missing)}: give the Trainer a DataModule "
                f"with the attributes {', '.join(names)}, or make the images beforehand: images = "
                "synthesise(model, 256, size, mean=..., std=...), CalibrationCallback(..., "
                "calibration_dataloader=images.split(32))."
            )
        # Tensors and arrays as well.
        return cls(*(value.tolist() if hasattr(value, "tolist") else value for value in values))

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.channels, height, width


@dataclass(frozen=True)
class SyntheticImages:
    """Images made from a network, all of them in each process.

    Args:
        images: as the network reads them, `[N, C, H, W]`.
        contact_sheet: a picture of the first of them.
    """

    images: Tensor
    contact_sheet: Path


def make_images(
    ann: nn.Module,
    count: int,
    form: ImageForm,
    settings: Synthesis,
    cache: Path,
    communicator: StrategyCommunicator,
    progress: bool = False,
) -> SyntheticImages:
    """Make images from a network, each process its share, or read those made earlier for the same network.

    Args:
        ann: on the device where they are made; the same on all processes, and left as it is.
        count: images to make.
        form: what they are like.
        settings: how they are made.
        cache: the folder in which they are kept, in one of their own.
        communicator: of the processes.
        progress: whether to show iterations.

    Raises:
        CalibrationError: the network has no statistics to match, or can't be run on such images.
    """
    # Not above: torchvision and scikit-learn are imported only by those who make images.
    from snn_lightning.training.synthesis import SynthesisModule

    rank, world_size = communicator.rank, communicator.world_size
    module = SynthesisModule(
        ann,
        count,
        form.size,
        settings,
        folder=cache / _key(ann, count, form, settings),
        channels=form.channels,
        mean=form.mean,
        std=form.std,
        progress=progress and rank == 0,
    )
    module.to(communicator.strategy.root_device)
    communicator.barrier()  # the folder is there
    for batch in module.batches(rank, world_size):
        module.predict_step(batch)
    communicator.barrier()
    module.finish(rank)
    communicator.barrier()
    return SyntheticImages(module.images(), module.folder.path / "contact_sheet.png")


def _key(ann: nn.Module, count: int, form: ImageForm, settings: Synthesis) -> str:
    """Return sixteen hexadecimal digits that tell images apart by what they were made of."""
    numbers = [count, asdict(form), asdict(settings)]
    plain = json.dumps(numbers).encode()
    statistics = Path(settings.statistics or "")
    file = [statistics.read_bytes()] if statistics.is_file() else []
    weights = (part for name, x in ann.state_dict().items() for part in (name.encode(), tensor_bytes(x)))
    return fingerprint([plain, *file, *weights])


class MadeImages:
    """Stands for a calibration loader: images from the network itself, or noise.

    Args:
        kind: "synthetic", "noise", or the settings of the synthesis.
        seed: of the images, where no settings say it.

    Raises:
        SettingsError: it is none of these.
    """

    def __init__(self, kind: str | Synthesis, seed: int) -> None:
        if not isinstance(kind, Synthesis):
            check_choice("calibration_dataloader", kind, MADE)
        self.settings = kind if isinstance(kind, Synthesis) else Synthesis(seed=seed)
        self.noise, self.seed = kind == "noise", seed

    def check(self, trainer: Trainer) -> None:
        """Raise an error if the DataModule doesn't say what the images are like."""
        ImageForm.of(getattr(trainer, "datamodule", None))

    def batches(
        self,
        trainer: Trainer,
        module: LightningModule,
        network: nn.Module,
        communicator: StrategyCommunicator,
    ) -> tuple[Callable[[Any], Tensor] | None, Iterable[Tensor]]:
        """Return batches of images, and what the network receives of one, where module has no `forward`.

        Args:
            trainer: its DataModule says how many, and what they are like.
            module: its `forward` reads the images, where it has one.
            network: reads them otherwise.
            communicator: of the processes.
        """
        data = getattr(trainer, "datamodule", None)
        form = ImageForm.of(data)
        count = getattr(getattr(data, "settings", None), "calibration_images", None) or COUNT
        check_whole("data.calibration_images", count)
        whole = is_overridden("forward", module)
        inputs = None if whole else lambda batch: batch
        if self.noise:
            from snn_lightning.data.unlabelled import Noise

            return inputs, DataLoader(Noise(count, form.shape, self.seed), batch_size=BATCH)
        ann, cache = module if whole else network, Path(trainer.default_root_dir) / "synthetic"
        rank_zero_info(f"Making {count} calibration images from {type(ann).__name__}")
        return inputs, make_images(ann, count, form, self.settings, cache, communicator).images.split(BATCH)


def made_images(loader: Any, inputs: object, seed: int) -> MadeImages | None:
    """Return what stands for a loader; None for a loader itself, or none.

    Raises:
        SettingsError: `inputs` takes batches apart that there are not, or there is no such kind.
    """
    if not isinstance(loader, str | Synthesis):
        return None
    if inputs is not None:
        raise SettingsError(
            "inputs is a function of the batches of a loader, and images that are made are batches "
            "[N, C, H, W]: leave it out, or pass a calibration_dataloader."
        )
    return MadeImages(loader, seed)
