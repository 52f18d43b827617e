"""What a network's graph becomes, as far as that is the user's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snn_lightning.errors import SettingsError
from snn_lightning.settings import Settings, check_choice

MAX_POOLING = ("gated", "average", "keep")

AUTO = "auto"
"""In place of a pattern: leave analog what has no spiking form, and no more."""


@dataclass(frozen=True, kw_only=True)
class GraphSettings(Settings):
    """What becomes of the pooling of spikes, and what stays analog.

    Args:
        max_pooling: "gated" passes, in each window, the spikes of the input with the largest rate so far;
            "average" replaces max pooling; "keep" takes the maximum of the spikes of each time step.
        convert_avg_pool: give every average pooling of spikes neurons of its own, as a depthwise convolution
            (FL appendix B, eq. 24).
        analog: what is left as it is: globs on qualified names of modules, such as `*.se`, or names of
            operators as the report prints them, such as "softmax"; "auto" for all that has no spiking form.

    Example:
        >>> import torch
        >>> from snn_lightning import convert
        >>> ann = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 1), torch.nn.Sigmoid())
        >>> convert(ann, torch.rand(2, 4), timesteps=4, analog="Sigmoid").conversion.analog
        ('Sigmoid',)
    """

    max_pooling: str = "gated"
    convert_avg_pool: bool = False
    analog: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("max_pooling", self.max_pooling, MAX_POOLING)
        object.__setattr__(self, "analog", patterns(self.analog))


def patterns(analog: object) -> tuple[str, ...]:
    """Return `analog`, one pattern or several in any sequence, as a tuple.

    Raises:
        SettingsError: it is no such thing.
    """
    several = (analog,) if isinstance(analog, str) else analog
    if not isinstance(several, Sequence) or not all(isinstance(p, str) and p for p in several):
        raise SettingsError(
            "analog must be names of modules or operators, such as ('head', '*.se', 'softmax'), or 'auto', "
            f"got {analog!r}"
        )
    return tuple(several)
