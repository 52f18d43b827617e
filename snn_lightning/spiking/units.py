"""Units: what looks at time. Their base, gates at max pools and the readout; neurons are in `neurons/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.packing import SpikeTrain

State = Tensor | None


@dataclass(frozen=True)
class Emission:
    """What a unit gives out in some time steps.

    Args:
        total: sum of the output over the steps, `[N, ...]`; memory of its own, which may be overwritten.
        state: of the unit after the last step.
        output: over time, `[T, N, ...]`, or None where nobody wants it.
        counts: spikes that each neuron emitted, negative ones too, `[N, ...]`; None for a unit that doesn't
            fire.
    """

    total: Tensor
    state: State
    output: Tensor | SpikeTrain | None
    counts: Tensor | None = None


class Unit(nn.Module):
    """Base of all units; its buffers take the shapes they have in a checkpoint."""

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Advance `steps` time steps.

        Args:
            current: `[T, N, ...]`, or `[N, ...]` if `static`.
            state: what an earlier call returned, or None at the start of an inference.
            steps: T.
            static: the same current comes at every step.
            overwrite: the output may take the memory of the current.

        Returns:
            Output `[T, N, ...]` and the state after the last step.
        """
        raise NotImplementedError

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Advance as `forward` does, and return the output as small as it can be stored.

        Args:
            keep: whether the output over time is wanted, or its sum only.
        """
        output, state = self(current, state, steps, static)
        return Emission(output.sum(0), state, output if keep else None)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self._buffers.items():
            stored = state_dict.get(prefix + name)
            if buffer is not None and isinstance(stored, Tensor) and stored.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Readout(Unit):
    """The last stage: it integrates and never fires (PC 3.2).

    Attributes:
        bias: added at every step, `[]` or `[C]`, activation units.

    Example:
        >>> readout = Readout()
        >>> readout.bias = torch.tensor(0.5)
        >>> readout(torch.ones(2, 1, 3), None, steps=2)[0][0]
        tensor([[1.5000, 1.5000, 1.5000]])
    """

    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bias", torch.zeros(()))

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return what arrives at each step, `[T, N, C, ...]`; see `Unit.forward`."""
        current = current.expand(steps, *current.shape) if static else current
        return current + per_channel(self.bias, current[0]), None

    def expected_rate(self, current: Tensor, timesteps: int) -> Tensor:
        """Return the mean readout at mean current `[N, C, ...]`."""
        return current + per_channel(self.bias, current)


class GatedMaxPool(Unit):
    """Max pooling of spike trains: each window passes what raises the largest sum it has received so far.

    `y(t) = max_i sum_{s <= t} x_i(s) - max_i sum_{s < t} x_i(s)`: the sum of the output is the largest sum of
    an input, and so its rate is the maximum of the rates. Of spikes it passes one, and only if the input that
    leads has fired; the maximum of the spikes at each step would pass those of all. Where the leader takes a
    spike back, and no other input has as many, the gate gives a negative spike.

    The sums are float64, in which those of float32 spikes are exact: of spikes it gives spikes, bit for bit
    (of bursts of 3 and more, whose own values are rounded, to the last bits).

    Args:
        pool: the ANN's max pool; only its window is used.

    Example:
        >>> spikes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).view(3, 1, 1, 2)
        >>> GatedMaxPool(nn.MaxPool1d(2))(spikes, None, steps=3)[0].flatten()
        tensor([1., 0., 1.])
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return the growth of each window's maximum, `[T, N, ...]`; see `Unit.forward`."""
        if static:
            raise SettingsError(
                "a gate needs temporal input; max pooling of static values is an ordinary operator"
            )
        total = torch.zeros_like(current[0], dtype=torch.float64) if state is None else state
        before, outputs = self.pool(total), []
        for step in current:
            # Not in place: gradients pass here too.
            total = total + step
            largest = self.pool(total)
            outputs.append((largest - before).to(step.dtype))
            before = largest
        return torch.stack(outputs), total
