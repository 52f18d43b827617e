"""The settings of image synthesis."""

from __future__ import annotations

from dataclasses import dataclass

from snn_lightning.errors import SettingsError
from snn_lightning.settings import Settings, check_interval, check_positive, check_whole, is_number


@dataclass(frozen=True)
class Synthesis(Settings):
    """How calibration images are made of a trained network, without data and without labels.

    PC 5.7 calibrates on images of Li et al., "MixMix: All you need for data-free compression are feature and
    data mixing", ICCV 2021, arXiv:2011.09899: their activations match what the batch norms saw in training.

    Args:
        iterations: steps of Adam for each batch of images.
        batch_size: images that are optimised together, at most; their statistics are matched together.
        learning_rate: of Adam, at the start of its cosine schedule; in pixels of 0…1.
        total_variation: weight of the mean difference between neighbouring pixels.
        l2: weight of the mean squared distance of pixels to mid grey.
        diversity: weight of the similarity between the features of a batch's images.
        mix: probability that in an iteration a box of each image is one of another image.
        shift: pixels by which images are shifted at random in each iteration, at most.
        flip: whether images are mirrored left to right in half the iterations.
        start_size: shorter side of the images in the first iterations, in pixels; None: half of the final one
            where that is 32 or more and the networks run on it. The final one: all iterations are at that.
        start_part: the part of the iterations at that size.
        seed: the same seed gives the same images.
        statistics: a file of `ActivationStatistics`, to be matched instead of the batch norms' own.

    Example:
        >>> Synthesis(iterations=100).batch_size
        32
    """

    iterations: int = 400
    batch_size: int = 32
    learning_rate: float = 0.05
    total_variation: float = 0.2
    l2: float = 0.01
    diversity: float = 0.03
    mix: float = 0.5
    shift: int = 2
    flip: bool = True
    start_size: int | None = None
    start_part: float = 0.5
    seed: int = 0
    statistics: str | None = None

    def __post_init__(self) -> None:
        check_whole("synthesis.iterations", self.iterations)
        check_whole("synthesis.batch_size", self.batch_size)
        check_positive("synthesis.learning_rate", self.learning_rate)
        for name in ("total_variation", "l2", "diversity"):
            if not is_number(value := getattr(self, name)) or value < 0:
                raise SettingsError(f"synthesis.{name} must be a number of at least 0, got {value!r}")
        check_interval("synthesis.mix", self.mix, "[0, 1]")
        check_whole("synthesis.shift", self.shift, least=0)
        if not isinstance(self.flip, bool):
            raise SettingsError(f"synthesis.flip must be true or false, got {self.flip!r}")
        check_whole("synthesis.start_size", self.start_size, optional=True)
        check_interval("synthesis.start_part", self.start_part, "[0, 1)")
        check_whole("synthesis.seed", self.seed, least=0)
        if not (self.statistics is None or (isinstance(self.statistics, str) and self.statistics)):
            raise SettingsError(
                f"synthesis.statistics must be the path of a file or null, got {self.statistics!r}"
            )
