"""Bases of neurons that fire more than {0, 1} spikes in a time step."""

from __future__ import annotations

from torch import Tensor

from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.packing import SpikeTrain
from snn_lightning.spiking.units import Emission, State


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

    def _count(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor, State]:
        _, v_th, bias = self._shaped(current if static else current[0])
        counts, end = self.fire(current + bias, state, steps, static)
        return counts, v_th, end


class StaircaseNeuron(GradedNeuron):
    """Base of graded neurons that fire as `kernels.simulate` does, so that gradients pass."""

    forward = IFNeuron.forward

    def _count(self, current: Tensor, state: State, steps: int, static: bool) -> tuple[Tensor, Tensor, State]:
        spikes, end = self.forward(current, state, steps, static)
        _, v_th, _ = self._shaped(spikes[0])
        return (spikes / v_th).round_(), v_th, end
