"""Images synthesised under a Trainer, a batch at a time, by any number of processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from snn_lightning import files
from snn_lightning.errors import SettingsError
from snn_lightning.files import tensor_bytes
from snn_lightning.graph.parts import device_of
from snn_lightning.settings import check_whole
from snn_lightning.synthesis.estimate import estimate
from snn_lightning.synthesis.files import ImageFolder
from snn_lightning.synthesis.generate import Source, Synthesiser
from snn_lightning.synthesis.settings import Synthesis
from snn_lightning.synthesis.shape import channels_of, per_channel, sides
from snn_lightning.synthesis.statistics import ActivationStatistics


class SynthesisModule(LightningModule):
    """Makes images in `predict_step`, a batch of them in each, and leaves them in a folder.

    A batch depends on its number alone, so that any number of processes make the same images. Batches that
    lie in the folder already are not made again. Without a Trainer:
    `for batch in module.batches(rank, world_size): module.predict_step(batch)`.

    Args:
        ann: the trained network; left as it is.
        count: images to make.
        size: of an image, `(H, W)` or the side of a square, in pixels.
        settings: how they are made.
        folder: where they are left; all processes see the same.
        channels: of an image, 1 or 3; None: what the network runs on.
        mean: of the normalisation in front of the network: of pixels in 0…1, a number or one a channel.
        std: of the normalisation.
        sources: further networks that read the same input; the images match all of them.
        statistics: of the layers of `ann`, to be matched instead of its batch norms' own.
        progress: whether to show iterations.

    Raises:
        SettingsError: an argument makes no sense, or the folder holds other images.
        CalibrationError: a network can't be run on such images, or has no statistics to match.

    Example:
        >>> ann = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU())
        >>> module = SynthesisModule(ann, 3, 8, Synthesis(2, batch_size=2), folder="images")
        >>> list(module.batches(rank=0, world_size=2)), list(module.batches(rank=1, world_size=2))
        ([0], [1])
        >>> for batch in module.batches():
        ...     _ = module.predict_step(batch)
        >>> module.finish()
        >>> module.images().shape
        torch.Size([3, 1, 8, 8])
    """

    mean: Tensor
    std: Tensor

    @torch.inference_mode(False)
    def __init__(
        self,
        ann: nn.Module,
        count: int,
        size: int | Sequence[int],
        settings: Synthesis | None = None,
        *,
        folder: str | PathLike[str],
        channels: int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        sources: Sequence[nn.Module] = (),
        statistics: ActivationStatistics | None = None,
        progress: bool = False,
    ) -> None:
        super().__init__()
        check_whole("count", count)
        self.settings = settings or Synthesis()
        self.count = count
        given = _statistics(self.settings, statistics)
        made = [Source(ann, given), *map(Source, sources)]
        self.sources = nn.ModuleList(made)
        height, width = sides(size)
        normalisation = per_channel("mean", mean), per_channel("std", std)
        self.shape = (channels_of(made, channels, normalisation, (height, width)), height, width)
        for name, value in zip(("mean", "std"), normalisation, strict=True):
            full = torch.tensor(value if len(value) > 1 else value * self.shape[0])
            self.register_buffer(name, full[:, None, None], persistent=False)
        self.progress = progress
        self.folder = ImageFolder(Path(folder), self._key())
        self.folder.open()
        self._pixels: Tensor | None = None
        self._costs_known = False

    @property
    def total(self) -> int:
        """The number of batches; they are of one size, or differ by one image."""
        return -(-self.count // self.settings.batch_size)

    def batches(self, rank: int = 0, world_size: int = 1) -> range:
        """Return the numbers of the batches that a process makes."""
        return range(rank, self.total, world_size)

    def predict_dataloader(self) -> range:
        """Return the batches of this process."""
        batches = self.batches(self.trainer.global_rank, self.trainer.world_size)
        # Without any, a Trainer would leave out the hooks, in which the others wait for this process.
        return batches or range(self.total, self.total + 1)

    def predict_step(self, batch: int, batch_idx: int = 0) -> int:
        """Make a batch of images, unless it is there, and save it; return how many were made."""
        numbers = self._numbers(batch)
        if batch >= self.total or self.folder.has(numbers):
            return 0
        synthesiser = self.synthesiser()
        if self._shows and not self._costs_known:
            self._costs_known = True
            cost = estimate(synthesiser, len(numbers))
            text = f"Synthesis of {self.count} images in {self.total} batches: {cost}"
            # Printed, and not logged: Lightning's own messages may be switched off.
            Console().print(text, highlight=False, markup=False, soft_wrap=True)
        with self._shown(numbers) as on_iteration:
            pixels = synthesiser.generate(len(numbers), batch, on_iteration)
        self.folder.write(numbers[0], pixels)
        return len(numbers)

    def on_predict_start(self) -> None:
        """Let all processes work in the first one's folder, which may be a temporary one.

        Raises:
            SettingsError: a process doesn't see it.
        """
        self.folder = replace(self.folder, path=Path(self.trainer.strategy.broadcast(str(self.folder.path))))
        if not self.folder.path.is_dir():
            raise SettingsError(
                f"A process doesn't see the folder '{self.folder.path}': give folder=, on a disk that "
                "all share."
            )

    def on_predict_end(self) -> None:
        """Read all images when all processes are done, and leave a contact sheet beside them."""
        self.trainer.strategy.barrier()
        self.finish(self.trainer.global_rank)
        self.trainer.strategy.barrier()

    def finish(self, rank: int = 0) -> None:
        """Read all images, when they are made, and leave a contact sheet beside them.

        Args:
            rank: of this process; the first writes the sheet.
        """
        self._pixels = self.folder.read(range(self.count))
        if rank == 0:
            self.folder.write_sheet(self._pixels)

    def synthesiser(self) -> Synthesiser:
        """Return what makes the images, on the module's device."""
        return Synthesiser(self._made(), self.settings, self.shape, self.mean, self.std)

    def images(self) -> Tensor:
        """Return all images as the network reads them, normalised, `[count, C, H, W]`, on the CPU."""
        pixels = self.folder.read(range(self.count)) if self._pixels is None else self._pixels
        return (pixels.float() / 255 - self.mean.cpu()) / self.std.cpu()

    @property
    def _shows(self) -> bool:
        return self.progress and (self._trainer is None or self.trainer.is_global_zero)

    def _made(self) -> list[Source]:
        return [source for source in self.sources if isinstance(source, Source)]

    def _numbers(self, batch: int) -> range:
        return range(self.count * batch // self.total, self.count * (batch + 1) // self.total)

    def _key(self) -> dict[str, Any]:
        sources = self._made()
        settings = {name: value for name, value in asdict(self.settings).items() if name != "statistics"}
        return {
            "count": self.count,
            "networks": [_fingerprint(source.network) for source in sources],
            "statistics": [source.statistics.fingerprint() for source in sources],
            "shape": list(self.shape),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "settings": settings,
        }

    @contextmanager
    def _shown(self, numbers: range) -> Iterator[Any]:
        """Show the iterations of a batch."""
        if not self._shows:
            yield lambda: None
            return
        # A console of its own: that of all may show a Trainer's bar.
        with Progress(console=Console()) as bar:
            what = f"images {numbers[0] + 1}-{numbers[-1] + 1} of {self.count}"
            task = bar.add_task(what, total=self.settings.iterations)
            yield lambda: bar.advance(task)


def synthesise(
    ann: nn.Module,
    count: int,
    size: int | Sequence[int],
    settings: Synthesis | None = None,
    *,
    folder: str | PathLike[str] | None = None,
    channels: int | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    sources: Sequence[nn.Module] = (),
    statistics: ActivationStatistics | None = None,
    trainer: Trainer | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Tensor:
    """Make calibration images of a trained network, without data and without labels.

    PC 5.7. The images are optimised until the network's activations have the mean and the deviation that its
    batch norms saw in training. Its weights, its mode and the global random streams stay as they are.

    Args:
        ann: the trained network.
        count: images to make.
        size: of an image, `(H, W)` or the side of a square, in pixels.
        settings: how they are made.
        folder: where they are left as PNG files, with a contact sheet; a run that was killed goes on there.
            None: they are only returned.
        channels: of an image, 1 or 3; None: what the network runs on.
        mean: of the normalisation in front of the network: of pixels in 0…1, a number or one a channel.
        std: of the normalisation.
        sources: further networks that read the same input; the images match all of them.
        statistics: of the layers of `ann`, to be matched instead of its batch norms' own;
            see `capture_statistics`.
        trainer: whose devices make them; None: one on `device`.
        device: where they are made; None: where the network is.
        progress: whether to print what it will cost, and to show iterations.

    Returns:
        The images as the network reads them, normalised, `[count, C, H, W]`, on the CPU: exactly what the PNG
        files hold.

    Raises:
        SettingsError: an argument makes no sense, or the folder holds other images.
        CalibrationError: a network can't be run on such images, has no statistics to match, or gives NaN.
        CheckpointError: the statistics are of another network, or files can't be read or written.

    Example:
        >>> ann = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        >>> synthesise(ann, 4, 16, Synthesis(iterations=3), mean=0.5, std=0.25, progress=False).shape
        torch.Size([4, 3, 16, 16])
    """
    if trainer is not None and device is not None:
        raise SettingsError("device: a Trainer brings its own devices; give trainer= or device=, not both.")
    place = tempfile.TemporaryDirectory() if folder is None else nullcontext(folder)
    devices = torch.device(device or device_of(ann) or "cpu")
    forked = [devices.index or 0] if devices.type == "cuda" else []
    with place as path, torch.random.fork_rng(forked):
        module = SynthesisModule(
            ann,
            count,
            size,
            settings,
            folder=path,
            channels=channels,
            mean=mean,
            std=std,
            sources=sources,
            statistics=statistics,
            progress=progress,
        )
        (trainer or _trainer(devices)).predict(module, return_predictions=False)
        return module.images()


def _trainer(device: torch.device) -> Trainer:
    return Trainer(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _statistics(settings: Synthesis, given: ActivationStatistics | None) -> ActivationStatistics | None:
    if settings.statistics is None:
        return given
    if given is not None:
        raise SettingsError("synthesis.statistics names a file, and statistics= are given: leave one out.")
    return ActivationStatistics.load(settings.statistics)


def _fingerprint(network: nn.Module) -> str:
    parts = [
        part
        for name, tensor in network.state_dict().items()
        for part in (name.encode(), tensor_bytes(tensor))
    ]
    return files.fingerprint(parts)
