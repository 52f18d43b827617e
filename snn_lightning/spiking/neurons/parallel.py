"""Neurons that first take the currents of a whole window and then emit their spikes."""

from __future__ import annotations

from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.spiking.neurons.dynamics import expected_count, first_steps, untracked
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.surrogate import slope
from snn_lightning.spiking.packing import SpikeTrain
from snn_lightning.spiking.units import Emission, State

LARGEST_COUNT = 255
"""What a byte holds."""


class ParallelNeuron(IFNeuron):
    """Neurons that add up the currents of T time steps and fire in the T steps that follow.

    `v = v_init + sum over T steps of (current + bias); n = clip(floor(v / v_th), 0, T)`, and then a spike in
    each of the first n steps: `v >= v_th` with soft reset, while nothing more comes in. The count depends on
    the mean current alone, whatever came when: the rate is `expected_rate` exactly, and with v_init =
    v_th / 2 the activation quantised to T levels (parallel conversion: Hao et al., "Faster and stronger: when
    ANN-SNN conversion meets parallel spiking calculation", ICML 2025, arXiv:2412.13610). But no layer fires
    before the one in front of it is through: an inference takes T steps for every layer, and T for the
    readout.

    As it knows its input by the mean, so does what reads it linearly know its spikes: where a single time
    step is asked for, it stands for `levels` steps, gets their mean current, and gives their mean output,
    `n * v_th / levels`. Whoever needs no spikes in time saves T - 1 of T steps.

    Gradients pass by the surrogate of IF neurons, `slope`: fully where one spike more or less changes the
    rate, and less and less towards where no current changes it.

    Example:
        >>> import torch
        >>> neuron = ParallelNeuron(rounding="floor")
        >>> neuron(torch.tensor([0.25, 0.0, 1.5, 0.5]).view(4, 1, 1), None, steps=4)[0].flatten()
        tensor([1., 1., 0., 0.])
        >>> neuron.levels = 4
        >>> neuron(torch.tensor([[[0.5625]]]), None, steps=1)[0].flatten()
        tensor([0.5000])
    """

    windowed = True

    @property
    def spike_bits(self) -> int:
        """See `IFNeuron.spike_bits`; of a step that stands for a window, those of the count."""
        return self.levels.bit_length() if self.levels <= LARGEST_COUNT else 32

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return spikes `[T, N, C, ...]`, or in a single step their mean; see `Unit.forward`."""
        fired, value = self._fire(current, state, steps, static, overwrite)
        if steps == 1:
            rate = fired.mul_(value) if untracked(fired, value) else fired * value
            return rate[None], value
        spikes = first_steps(fired.detach(), steps) * value
        if fired.requires_grad:
            spikes = spikes + (fired - fired.detach()) * (value / steps)
        return spikes, value

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Return spikes, one bit each, or in a single step their number, packed; see `Unit.emit`."""
        fired, value = self._fire(current, state, steps, static)
        total = fired * value
        output: Tensor | SpikeTrain | None = None
        if keep and steps > 1:
            output = SpikeTrain.pack(first_steps(fired, steps), value, 0, 1)
        elif keep:
            packs = self.levels <= LARGEST_COUNT
            output = SpikeTrain.pack(fired[None], value, 0, self.levels) if packs else fired[None] * value
        return Emission(total, value, output, fired)

    def _fire(
        self, current: Tensor, state: State, steps: int, static: bool, overwrite: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the number of spikes in all, `[N, C, ...]`, and what one of them adds to the output."""
        if state is not None:
            raise SettingsError(f"a {type(self).__name__} takes all time steps of an inference at once")
        like = current if static else current[0]
        start, v_th, bias = self._shaped(like)
        if steps == 1:
            alone = overwrite and not static and untracked(like, bias)
            mean = like.add_(bias) if alone else like + bias
            return expected_count(mean, self.levels, v_th, start, derivative=slope), v_th / self.levels
        total = steps * like if static else current.sum(0)
        return expected_count(total + steps * bias, 1, v_th, start, steps, slope), v_th
