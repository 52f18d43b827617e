"""Integrate-and-fire neurons, the default."""

from __future__ import annotations

import torch
from torch import Tensor

from snn_lightning.errors import SettingsError
from snn_lightning.settings import check_choice
from snn_lightning.spiking import kernels
from snn_lightning.spiking.neurons.dynamics import ROUNDINGS, expected_rate, per_channel
from snn_lightning.spiking.packing import SpikeTrain
from snn_lightning.spiking.units import Emission, State, Unit


class IFNeuron(Unit):
    """Integrate-and-fire neurons with soft reset, one a position of the site's activation (PC eq. 2-4).

    `v += current + bias; s = v_th * (v >= v_th); v -= s`, from `v = v_init`.

    Args:
        v_th: threshold `[C]` (channel-wise) or `[]` (layer-wise), activation units.
        rounding: "potential" starts at v_th / 2, "bias" adds v_th / 2T a step (PC 4.3), "floor" does neither.
        timesteps: T, used by rounding "bias" only.

    Attributes:
        v_th, v_init, bias: buffers; v_init is `[]`, `[C]` or one value a neuron, bias is `[]` or `[C]`.
        lowest, highest: fewest and most spikes in one time step; below 0 where spikes can be taken back.
        windowed: whether they wait for all time steps of their input, know it by its mean, and so take all
            steps at once or one that stands for them; see `ParallelNeuron`.
        levels: for how many time steps a single one stands where they are windowed.

    Example:
        >>> neuron = IFNeuron(v_th=torch.tensor(1.0), rounding="floor")
        >>> spikes, potential = neuron(torch.tensor([[0.5]]), None, steps=4, static=True)
        >>> spikes.flatten()
        tensor([0., 1., 0., 1.])
    """

    lowest: int = 0
    highest: int = 1
    windowed: bool = False
    levels: int = 1
    v_th: Tensor
    v_init: Tensor
    bias: Tensor

    def __init__(self, v_th: Tensor | None = None, rounding: str = "potential", timesteps: int = 1) -> None:
        super().__init__()
        v_th = torch.ones(()) if v_th is None else v_th
        for name in ("v_th", "v_init", "bias"):
            self.register_buffer(name, torch.zeros_like(v_th))
        self.set_threshold(v_th, rounding, timesteps)

    @property
    def spike_bits(self) -> int:
        """Bits that a neuron and time step take in a packed spike train."""
        return (self.highest - self.lowest).bit_length()

    def set_threshold(self, v_th: Tensor, rounding: str, timesteps: int) -> None:
        """Set the threshold, and initial potential and bias as `rounding` wants them."""
        check_choice("rounding", rounding, ROUNDINGS)
        if not (torch.isfinite(v_th) & (v_th > 0)).all():
            raise SettingsError("v_th must be positive and finite in every channel")
        self.v_th = v_th
        self.v_init = v_th / 2 if rounding == "potential" else torch.zeros_like(v_th)
        self.bias = v_th / (2 * timesteps) if rounding == "bias" else torch.zeros_like(v_th)

    def begin(self, start: Tensor) -> Tensor:
        """Return the state at the start of an inference, given the initial potential."""
        return start

    def forward(
        self, current: Tensor, state: State, steps: int, static: bool = False, overwrite: bool = False
    ) -> tuple[Tensor, State]:
        """Return spikes `[T, N, C, ...]` with values `n * v_th`; see `Unit.forward`.

        Where something of it wants a gradient, it passes by a surrogate; see `kernels.simulate`.
        """
        start, v_th, bias = self._shaped(current if static else current[0])
        state = self.begin(start) if state is None else state
        bounds = {"lowest": self.lowest, "highest": self.highest}
        return kernels.simulate(
            current, state, v_th, bias, steps, static=static, overwrite=overwrite, **bounds
        )

    def emit(
        self, current: Tensor, state: State, steps: int, static: bool = False, keep: bool = True
    ) -> Emission:
        """Return spikes, one bit each, and their number; see `Unit.emit`."""
        like = current if static else current[0]
        start, v_th, bias = self._shaped(like)
        start = start if state is None else state
        counts, bits, end = kernels.count(current, start, v_th, bias, steps, static=static, pack=keep)
        train = None if bits is None else SpikeTrain(bits, v_th, kernels.Layout.of(like))
        return Emission(counts * v_th, end, train, counts)

    def _shaped(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return initial potential, threshold and bias so that they broadcast over `like`, in its dtype."""
        if self.v_init.dim() > 1 and self.v_init.shape != like.shape[1:]:
            raise SettingsError(
                f"Neurons with initial potentials of shape {tuple(self.v_init.shape)} get a current of "
                f"{tuple(like.shape[1:])}: the input has another size than the calibration images. For "
                "inputs of any size calibrate with potential.granularity=channel, or on images of several."
            )
        start, v_th, bias = (per_channel(p, like).to(like.dtype) for p in (self.v_init, self.v_th, self.bias))
        return start, v_th, bias

    def expected_rate(self, current: Tensor, timesteps: int) -> Tensor:
        """Return the rate `[N, C, ...]` at mean current `[N, C, ...]` for evenly timed input (PC eq. 21)."""
        v_th, v_init = per_channel(self.v_th, current), per_channel(self.v_init, current)
        return expected_rate(current + per_channel(self.bias, current), timesteps, v_th, v_init, self.highest)
