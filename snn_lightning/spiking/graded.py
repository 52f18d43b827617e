"""Neurons that fire more than {0, 1} spikes in a time step, in plain PyTorch on every device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking import surrogate
from snn_lightning.spiking.functional import (
    burst_integrate_and_fire,
    signed_integrate_and_fire,
    switch_integrate_and_fire,
)
from snn_lightning.spiking.neuron import Emission, IFNeuron, State
from snn_lightning.spiking.packing import SpikeTrain

LARGEST_BURST = 127
"""What a byte holds."""

TOLERANCE = 1e-4
"""Of a gate's sums, over a spike."""


class GradedNeuron(IFNeuron):
    """Base of neurons whose spikes are `n * v_th` with whole numbers n from `lowest` to `highest`."""

    def fire(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor]:
        """Advance `steps` time steps; the bias is in the current already.

        Args:
            current: `[T, N, C, ...]`, or `[N, C, ...]` if `static`.
            state: what an earlier call returned, or None at the start of an inference.
            steps: T.
            static: the same current comes at every step.

        Returns:
            n of each step, `[T, N, C, ...]` in the dtype of the currents, and the state after the last step.
        """
        raise NotImplementedError

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return spikes `[T, N, C, ...]` with values `n * v_th`; see `Unit.forward`."""
        counts, v_th, state = self._count(current, state, steps, static)
        return counts.mul_(v_th), state

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Return spikes, `spike_bits` each, and their number, negative ones too; see `Unit.emit`."""
        counts, v_th, end = self._count(current, state, steps, static)
        train = SpikeTrain.pack(counts, v_th, self.lowest, self.highest) if keep else None
        return Emission(counts.sum(0) * v_th, end, train, counts.abs_().sum(0))

    def _count(
        self, current: Tensor, state: State, steps: int, static: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        _, v_th, bias = self._shaped(current if static else current[0])
        if bias.count_nonzero():
            current = current + bias
        counts, end = self.fire(current, state, steps, static)
        return counts, v_th, end


class StaircaseNeuron(GradedNeuron):
    """Base of graded neurons that fire as `surrogate.simulate` does, so that gradients pass."""

    def begin(self, start: Tensor) -> Tensor:
        """Return the state at the start of an inference, given the initial potential."""
        return start

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return spikes `[T, N, C, ...]` with values `n * v_th`; see `IFNeuron.forward`."""
        start, v_th, bias = self._shaped(current if static else current[0])
        state = self.begin(start) if state is None else state
        if surrogate.wanted(current, state, v_th, bias):
            bounds = {"lowest": self.lowest, "highest": self.highest}
            return surrogate.simulate(current, state, v_th, bias, steps, static=static, **bounds)
        return super().forward(current, state, steps, static, overwrite)


class SignedNeuron(StaircaseNeuron):
    """Neurons that take spikes back: spikes are {-1, 0, 1} times v_th.

    `v += current + bias; n = (v >= v_th) - (v < 0 and fired > 0); v -= n * v_th; fired += n`, from
    `v = v_init` and `fired = 0`. A neuron never takes back more than it has fired: its rate is 0 or more. At
    a constant current it fires as an `IFNeuron` does; where the current comes unevenly, spikes that were
    fired too early are taken back (negative spikes with a memory: Wang et al., "Signed neuron with memory",
    IJCAI 2022).

    Its state is potential and net number of spikes, `[2, N, C, ...]`.
    """

    lowest = -1

    def begin(self, start: Tensor) -> Tensor:
        """See `StaircaseNeuron.begin`."""
        return torch.stack([start, torch.zeros_like(start)])

    def fire(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor]:
        """See `GradedNeuron.fire`."""
        start, v_th, _ = self._shaped(current if static else current[0])
        potential, fired = (self.begin(start) if state is None else state).unbind(0)
        counts, v, fired = signed_integrate_and_fire(current, potential, fired, v_th, steps, static=static)
        return counts, torch.stack([v, fired])


class BurstNeuron(StaircaseNeuron):
    """Neurons that fire up to so many spikes in one time step.

    `v += current + bias; n = clip(floor(v / v_th), 0, highest); v -= n * v_th`, from `v = v_init` (burst
    spikes: Li and Zeng, "Efficient and accurate conversion of SNN with burst spikes", IJCAI 2022). Its rate
    goes up to `highest * v_th`.

    Args:
        highest: spikes a time step.
        v_th, rounding, timesteps: see `IFNeuron`.
    """

    def __init__(
        self, highest: int, v_th: Tensor | None = None, rounding: str = "potential", timesteps: int = 1
    ) -> None:
        super().__init__(v_th, rounding, timesteps)
        if isinstance(highest, bool) or not isinstance(highest, int) or not 1 <= highest <= LARGEST_BURST:
            raise SettingsError(
                f"spikes must be a whole number from 1 to {LARGEST_BURST} a time step, got {highest!r}"
            )
        self.highest = highest

    def fire(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor]:
        """See `GradedNeuron.fire`."""
        start, v_th, _ = self._shaped(current if static else current[0])
        start = start if state is None else state
        return burst_integrate_and_fire(current, start, v_th, self.highest, steps, static=static)


class SwitchNeuron(GradedNeuron):
    """Neurons that say a number by how long they are switched on, with two spikes at most (Han and Roy 2020).

    `v = v_init + sum over T steps of (current + bias); n = clip(floor(v / v_th), 0, T)`: in the T time steps
    that follow, the neuron sends a spike at the first to switch its synapses on, and a negative one n steps
    later to switch them off. What a synapse gets from its spikes `σ(t)` is `w v_th on(t)` with `on(t) = on(t
    - 1) + σ(t)`, so that in all a spike counts for the time that is left after it:
    `sum_t on(t) = sum_t σ(t) (T + 1 - t)` = n.

    The neuron's output here is `v_th on(t)`, and every layer's time starts anew with its own T steps: an
    inference takes T steps for every layer, one after the other.
    """

    windowed = True

    def fire(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor]:
        """See `GradedNeuron.fire`; all time steps come at once."""
        if state is not None:
            raise SettingsError("a SwitchNeuron takes all time steps of an inference at once")
        start, v_th, _ = self._shaped(current if static else current[0])
        return switch_integrate_and_fire(current, start, v_th, steps, static=static)

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Return what `GradedNeuron.emit` does, but for the number of spikes: two where the neuron is on."""
        emission = super().emit(current, state, steps, static, keep)
        return replace(emission, counts=2 * emission.total.sign())


def switches(output: Tensor) -> Tensor:
    """Return the spikes, negative ones too, that switch an output on and off.

    Args:
        output: values over time, `[T, N, ...]`; 0 before and after.

    Returns:
        1 where it changes and else 0, `[T + 1, N, ...]`.
    """
    edge = torch.zeros_like(output[:1])
    change = output.diff(dim=0, prepend=edge, append=edge).abs()
    # The sums of a gate differ by rounding.
    return (change > TOLERANCE * change.amax()).to(output.dtype) if change.numel() else change
