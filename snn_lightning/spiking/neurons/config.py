"""The kinds of neurons, as settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from snn_lightning.errors import CheckpointError, SettingsError
from snn_lightning.plugins import Registry
from snn_lightning.settings import Settings, check_whole
from snn_lightning.spiking.neurons.burst import LARGEST_BURST, BurstNeuron
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.neurons.parallel import ParallelNeuron
from snn_lightning.spiking.neurons.signed import SignedNeuron
from snn_lightning.spiking.neurons.temporal_switch import SwitchNeuron


@dataclass(frozen=True)
class Neuron(Settings):
    """Base of all kinds of neurons; its fields are plain numbers and strings, which a checkpoint keeps.

    Attributes:
        surrogate: whether gradients pass its units; see `spiking.surrogate`.

    Example:
        >>> class Fast(Neuron):
        ...     def build(self):
        ...         return BurstNeuron(highest=8)
        >>> Fast().build().highest
        8
    """

    surrogate: ClassVar[bool] = False

    def build(self) -> IFNeuron:
        """Return a unit of this kind, with threshold 1."""
        raise NotImplementedError


NEURONS: Registry[type[Neuron]] = Registry("neuron")
register_neuron, neuron_spec = NEURONS.register, NEURONS.describe


@register_neuron
@dataclass(frozen=True)
class IF(Neuron):
    """Integrate-and-fire: at most one spike a time step; see `IFNeuron`.

    Example:
        >>> from snn_lightning import LCP
        >>> LCP(timesteps=4).neuron
        IF()
    """

    surrogate = True

    def build(self) -> IFNeuron:
        """Return an `IFNeuron`."""
        return IFNeuron()


@register_neuron
@dataclass(frozen=True)
class Signed(Neuron):
    """Spikes {-1, 0, 1}: a neuron can take back what it has fired; see `SignedNeuron`.

    Example:
        >>> from snn_lightning import LCP
        >>> LCP(timesteps=4, neuron=Signed()).neuron.build().lowest
        -1
    """

    surrogate = True

    def build(self) -> IFNeuron:
        """Return a `SignedNeuron`."""
        return SignedNeuron()


@register_neuron
@dataclass(frozen=True)
class Burst(Neuron):
    """Up to `spikes` spikes a time step; see `BurstNeuron`.

    Args:
        spikes: most spikes a time step, from 1 (the same as `IF`) to 127.

    Example:
        >>> from snn_lightning import LCP
        >>> LCP(timesteps=4, neuron=Burst(spikes=3)).neuron.build().highest
        3
    """

    surrogate = True
    spikes: int = 2

    def __post_init__(self) -> None:
        check_whole("neuron.spikes", self.spikes, most=LARGEST_BURST)

    def build(self) -> IFNeuron:
        """Return a `BurstNeuron`."""
        return BurstNeuron(self.spikes)


@register_neuron
@dataclass(frozen=True)
class Switch(Neuron):
    """Two spikes an inference, the further apart the higher the rate; see `SwitchNeuron`.

    Example:
        >>> from snn_lightning import LCP
        >>> LCP(timesteps=4, neuron=Switch(), rounding="floor").neuron.build().windowed
        True
    """

    def build(self) -> IFNeuron:
        """Return a `SwitchNeuron`."""
        return SwitchNeuron()


@register_neuron
@dataclass(frozen=True)
class Parallel(Neuron):
    """T steps of input first, then as many spikes as its mean asks for; see `ParallelNeuron`.

    Example:
        >>> from snn_lightning import LCP
        >>> LCP(timesteps=4, neuron=Parallel()).neuron.build().windowed
        True
    """

    surrogate = True

    def build(self) -> IFNeuron:
        """Return a `ParallelNeuron`."""
        return ParallelNeuron()


def check_neuron(neuron: object) -> Neuron:
    """Return `neuron` if it is a registered kind of neuron.

    Raises:
        SettingsError: it is anything else.
    """
    if not isinstance(neuron, Neuron):
        raise SettingsError(f"neuron must be IF(), Signed(), Burst() or another Neuron, got {neuron!r}")
    NEURONS.name_of(type(neuron))
    return neuron


def check_surrogate(neuron: Neuron, purpose: str) -> None:
    """Refuse a kind of neuron that gradients don't pass.

    Raises:
        SettingsError: it has no surrogate gradient, which `purpose` needs.
    """
    if not neuron.surrogate:
        raise SettingsError(
            f"neuron={neuron!r} has no surrogate gradient, which {purpose} needs: use IF(), Signed(), "
            f"Burst() or Parallel(), or leave {purpose} out; or, if its units pass gradients as those do "
            f"(see spiking/neurons/surrogate.py), set surrogate = True on the class {type(neuron).__name__}"
        )


def neuron_from_spec(spec: Mapping[str, Any]) -> Neuron:
    """Return the kind of neuron that `neuron_spec` described.

    Raises:
        CheckpointError: it is not known here.
    """
    try:
        return cast(Neuron, NEURONS.restore(spec))
    except SettingsError as error:
        raise CheckpointError(
            f"The checkpoint describes neurons {dict(spec)!r}, which are not known here ({error}): install "
            "or import the package that registers them, or the file is damaged."
        ) from error
