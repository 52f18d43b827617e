"""Lightning's averaging of weights, and what stands for it where Lightning has none."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch import Callback

from snn_lightning.errors import SettingsError

try:
    from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
except ImportError:  # before Lightning 2.6

    class WeightAveraging(Callback):  # type: ignore[no-redef]
        """Refuses to be made."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise SettingsError(
                f"Averaging weights needs Lightning 2.6, and {lightning.__version__} is installed. Run pip "
                "install 'lightning>=2.6', or leave out callbacks=ema."
            )

    EMAWeightAveraging = WeightAveraging  # type: ignore[misc, assignment]

__all__ = ["EMAWeightAveraging", "WeightAveraging"]
