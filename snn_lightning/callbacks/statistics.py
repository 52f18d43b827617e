"""Whether the SNN receives what it was calibrated on, and whether it is called at all."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from torch import Tensor

from snn_lightning.spiking.model import SpikingModel


@dataclass
class InputStatistics:
    """Mean and deviation of the calibration images, to be compared with what the SNN receives later.

    Args:
        mean: over all their numbers; NaN where it is not known, and then nothing is compared.
        deviation: of all their numbers.
    """

    mean: float = math.nan
    deviation: float = math.nan
    _watched: SpikingModel | None = None

    @classmethod
    def of(cls, batches: list[Tensor]) -> InputStatistics:
        """Return those of batches of images, each `[N, ...]`."""
        count = sum(batch.numel() for batch in batches)
        mean = sum(batch.double().sum().item() for batch in batches) / count
        square = sum((batch.double() - mean).square().sum().item() for batch in batches) / count
        return cls(mean, square**0.5)

    def watch(self, snn: SpikingModel) -> None:
        """Look at the next images that `snn` receives; warn if they are of another range."""
        self.stop()

        def look(x: Tensor) -> None:
            self.stop()
            self.compare(x)

        snn.listener, self._watched = look, snn

    @property
    def waiting(self) -> bool:
        """Whether the SNN that is watched has not been called yet."""
        return self._watched is not None

    def stop(self) -> None:
        """Look no more."""
        if self._watched is not None:
            self._watched.listener = None
            self._watched = None

    def compare(self, x: Tensor) -> None:
        """Warn if images `[N, ...]` are shifted or scaled by a multiple."""
        if math.isnan(self.mean):
            return
        seen = InputStatistics.of([x])
        spread = max(self.deviation, 1e-12)
        if abs(seen.mean - self.mean) > 4 * spread or not 0.2 < seen.deviation / spread < 5:
            warnings.warn(
                f"The SNN receives numbers of {seen.mean:.3g} ± {seen.deviation:.3g}, and was calibrated on "
                f"{self.mean:.3g} ± {self.deviation:.3g}: calibration batches and these are prepared in "
                "different ways. Give CalibrationCallback batches like these, or inputs=....",
                stacklevel=2,
            )
