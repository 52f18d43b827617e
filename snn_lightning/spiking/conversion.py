"""How a network is converted, as one value that every function passes on and a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, cast

from snn_lightning.errors import SettingsError
from snn_lightning.graph.precision import check_precision
from snn_lightning.graph.settings import GraphSettings
from snn_lightning.plugins import Registry
from snn_lightning.settings import Settings, check_choice, check_whole
from snn_lightning.spiking.neurons.config import IF, NEURONS, Neuron, check_neuron, neuron_from_spec
from snn_lightning.spiking.neurons.dynamics import ROUNDINGS
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron

THRESHOLDS: Registry[type[Settings]] = Registry("threshold")
"""Filled by the room `thresholds`, which stands on this one."""


def check_timesteps(timesteps: object) -> int:
    """Return `timesteps` if it is a whole number of at least 1.

    Raises:
        SettingsError: it is anything else.
    """
    check_whole("timesteps (T)", timesteps)
    return cast(int, timesteps)


@dataclass(frozen=True)
class Conversion(GraphSettings):
    """How a network is converted; see `GraphSettings` for its other fields.

    Args:
        timesteps: T.
        threshold: how each site's firing threshold is found; None where that is not known, as in a network
            from a file of formats 1 to 3, or of a kind that nothing here registers.
        neuron: the kind of neurons at the sites.
        rounding: "potential", "bias" or "floor"; see `IFNeuron`.
        precision: in which the synapses compute, "float32", "tf32" or "bf16"; see `graph.precision`.
            Potentials, thresholds and biases stay float32.

    Example:
        >>> from snn_lightning.spiking import Signed
        >>> conversion = Conversion(timesteps=4, neuron=Signed(), max_pooling="average")
        >>> Conversion.from_spec(conversion.spec()) == conversion
        True
    """

    timesteps: int
    threshold: Settings | None = None
    neuron: Neuron = field(default_factory=IF)
    rounding: str = "potential"
    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps(self.timesteps)
        if self.threshold is not None:
            if not isinstance(self.threshold, Settings):
                raise SettingsError(f"threshold must be a Threshold such as MMSE(), got {self.threshold!r}")
            THRESHOLDS.name_of(type(self.threshold))
        check_neuron(self.neuron)
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_precision(self.precision)

    @property
    def conversion(self) -> Conversion:
        """The conversion alone, of what holds more than that."""
        return Conversion(**{f.name: getattr(self, f.name) for f in fields(Conversion)})

    @cached_property
    def simulated_steps(self) -> int:
        """Time steps of a window that are simulated: T, or 1 where the neurons know it by its mean.

        It is T for them too where a maximum of each step's spikes is kept, which is not linear.
        """
        return 1 if self.neuron.build().windowed and self.max_pooling != "keep" else self.timesteps

    def unit(self) -> IFNeuron:
        """Return a unit of its kind of neurons, with threshold 1."""
        unit = self.neuron.build()
        unit.levels = self.timesteps // self.simulated_steps
        return unit

    def spec(self) -> dict[str, Any]:
        """Return it as plain numbers, strings and dicts."""
        threshold = None if self.threshold is None else THRESHOLDS.describe(self.threshold)
        own = {f.name: getattr(self, f.name) for f in fields(Conversion)}
        return {**own, "neuron": NEURONS.describe(self.neuron), "threshold": threshold}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Conversion:
        """Return the conversion that `spec()` described.

        Raises:
            CheckpointError: its neurons are not known here.
            SettingsError: another of its values makes no sense.
        """
        neuron = neuron_from_spec(spec["neuron"])
        try:
            threshold = spec["threshold"] and THRESHOLDS.restore(spec["threshold"])
        except SettingsError:
            # What has been converted runs without.
            threshold = None
        return cls(**{**spec, "neuron": neuron, "threshold": threshold})
