"""The spiking network: a StageNetwork whose units run in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import CheckpointError, ConversionError, SettingsError
from snn_lightning.graph.ir import INPUT, Region, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.passes.pooling import settings_from
from snn_lightning.graph.precision import in_autocast
from snn_lightning.graph.report import site_caps, stage_table
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.latency import latency_steps
from snn_lightning.spiking.neurons.config import IF, Neuron, neuron_from_spec
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.report import SpikingReport, count_saved, spread
from snn_lightning.spiking.simulation import Simulation, SimulationState, enter
from snn_lightning.spiking.units import GatedMaxPool, Readout, Unit

FORMAT = 4
"""Version of the description in a checkpoint.

Format 1 said nothing of the neurons, which were all `IF`, and 2 nothing of the precision, which was float32.
One of format 3 may have no shapes, and up to there nothing was said of pooling, rounding and thresholds.
"""


ROWS = 128
"""Images times time steps that are simulated at once, as a rule."""


class SpikingModel(nn.Module):
    """A spiking network converted from an ANN.

    Calling it gives the ANN's output structure, every tensor the mean over time of the readout.

    Args:
        network: the normalised ANN; its operators become this model's synapses (they are not copied).
        conversion: how it has been converted.

    Attributes:
        units: an `IFNeuron` (of that kind) for each site, a `GatedMaxPool` for each gate, a `Readout` for
            each output.
        rows: largest number of images times time steps simulated at once; what is more is cut into chunks
            (of images only, where neurons need all time steps at once).
        simulated_steps: time steps of a window that calling it simulates, T or 1; see `Conversion`.
        status: "uncalibrated", "partial" or "calibrated".
        unit_spikes: whether its spikes are rescaled to whole numbers, see `rescale_to_unit_spikes`.
        last_step: where calling it stops, see `stopped_after`; None for T.
        listener: called with every batch of inputs before it is simulated, in whatever way; None as a rule.
        records: what the calibration did to each stage, see `StageRecord`; empty in a loaded model.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
        >>> snn(torch.tensor([[0.5], [0.25]]))
        tensor([[0.5000],
                [0.2500]])
    """

    def __init__(self, network: StageNetwork, conversion: Conversion) -> None:
        super().__init__()
        self.conversion, self.network = conversion, network
        network.precision = conversion.precision
        self.rows, self.simulated_steps = ROWS, conversion.simulated_steps
        self.status = "uncalibrated"
        self.unit_spikes = False
        self.last_step: int | None = None
        self.records: list[dict[str, Any]] = []
        self.listener: Callable[[Tensor], None] | None = None
        self.units = nn.ModuleDict({stage.name: self._unit(stage) for stage in network.stages})
        self.requires_grad_(False)

    def _unit(self, stage: Stage) -> Unit:
        if stage.kind == "neuron":
            return self.conversion.unit()
        return GatedMaxPool(self.network.operators[stage.name]) if stage.kind == "gate" else Readout()

    def steps_at_once(self, images: int) -> int:
        """Return how many time steps of so many images are simulated together, at the most."""
        if self._windowed or torch.compiler.is_compiling():
            return self.timesteps
        return max(1, self.rows // max(1, images))

    @property
    def _windowed(self) -> bool:
        return any(unit.windowed for unit in self.neurons.values())

    @property
    def windows(self) -> int:
        """Windows of T time steps that an inference takes, one after the other."""
        return len(self.network.schedule.regions)

    @property
    def latency_steps(self) -> int:
        """Time steps from the first of an inference to its output; see `spiking.latency`."""
        return latency_steps(self.network, self.timesteps, self._windowed)

    @property
    def timesteps(self) -> int:
        """T of one window."""
        return self.conversion.timesteps

    @property
    def neuron(self) -> Neuron:
        """The kind of neurons at the sites."""
        return self.conversion.neuron

    @property
    def precision(self) -> str:
        """In which the synapses compute, "float32", "tf32" or "bf16", see `graph.precision`; may be set."""
        return self.conversion.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self.conversion = replace(self.conversion, precision=precision)
        self.network.precision = precision

    @property
    def images_at_once(self) -> int:
        """Images simulated together; at large T not all time steps are, so that tensors stay worth a call."""
        return self._images_of(self.simulated_steps)

    def _images_of(self, steps: int) -> int:
        return max(self.rows // steps, 16)

    @property
    def neurons(self) -> dict[str, IFNeuron]:
        """The neurons by site."""
        return {name: unit for name, unit in self.units.items() if isinstance(unit, IFNeuron)}

    @property
    def report(self) -> SpikingReport:
        """What was converted: a table of stages, neurons and thresholds; printing the model prints it."""
        return SpikingReport(
            stage_table(self.network),
            caps=site_caps(self.network),
            shapes=self.network.shapes,
            windows=self.windows,
            neuron=repr(self.neuron),
            timesteps=self.timesteps,
            latency_steps=self.latency_steps,
            status=self.status,
            thresholds={name: spread(unit.v_th) for name, unit in self.neurons.items()},
            saved=count_saved(self.state_dict().items()),
        )

    def __repr__(self) -> str:
        return str(self.report)

    def forward(self, x: Tensor) -> Any:
        """Return the mean readout after T time steps.

        Args:
            x: inputs `[N, ...]`, shown at every time step.

        Returns:
            The ANN's output structure; tensors `[N, ...]` on the ANN's output scale.
        """
        return self.network.arrange(self.readouts(x))

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the mean over time of each output's unit, by the unit's name, `[N, ...]`; see `forward`."""
        parts: list[dict[str, Tensor]] = []
        # In between, spikes are needed in time.
        early = self.last_step is not None and self.last_step < self.timesteps
        window = self.timesteps if early else self.simulated_steps
        steps = self.last_step if early and self.last_step else window
        for chunk in self._image_chunks(x, window):
            total: dict[str, Tensor] = {}
            for outputs in self._simulate(chunk, window, steps):
                for name, value in outputs.items():
                    total[name] = total[name] + value.sum(0) if name in total else value.sum(0)
            parts.append({name: value / steps for name, value in total.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def running_mean(self, x: Tensor) -> Any:
        """Return the mean readout after each time step t = 1...T of one simulation's last window.

        Args:
            x: inputs `[N, ...]`.

        Returns:
            The ANN's output structure; tensors `[T, N, ...]`.

        Example:
            >>> from snn_lightning import convert
            >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
            >>> snn.running_mean(torch.tensor([[0.25]])).flatten()
            tensor([0.0000, 0.5000, 0.3333, 0.2500])
        """
        parts: list[dict[str, Tensor]] = []
        for chunk in self._image_chunks(x, self.timesteps):
            pieces: dict[str, list[Tensor]] = {}
            for outputs in self._simulate(chunk, self.timesteps, self.timesteps):
                for name, value in outputs.items():
                    pieces.setdefault(name, []).append(value)
            parts.append({name: torch.cat(value).cumsum(0) for name, value in pieces.items()})
        merged = {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}
        steps = torch.arange(1, self.timesteps + 1)
        means = {name: v / steps.to(v).view(-1, *[1] * (v.dim() - 1)) for name, v in merged.items()}
        return self.network.arrange(means, over_time=True)

    def spikes(self, x: Tensor) -> dict[str, Tensor]:
        """Return every neuron's spike train `[T, N, C, ...]`, by site; meant for small batches.

        Example:
            >>> from snn_lightning import convert
            >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
            >>> {site: train.flatten() for site, train in snn.spikes(torch.tensor([[0.5]])).items()}
            {'relu': tensor([1., 0., 1., 0.])}
        """
        record: dict[str, Tensor] = {}
        self._advance(self._begin(self._received(x), self.timesteps, record), self.timesteps, record)
        return record

    def initial_state(self, x: Tensor) -> SimulationState:
        """Return the state before the first time step for inputs `[N, ...]`; nothing leaks into it.

        Of several windows it is the state before the last one.
        """
        self._check_stepwise()
        return self._begin(self._received(x), self.timesteps)

    def step(self, state: SimulationState) -> tuple[Any, SimulationState]:
        """Advance one time step.

        Args:
            state: from `initial_state` or an earlier `step`; not changed.

        Returns:
            The readout of this step, in the ANN's output structure (tensors `[N, ...]`), and the next state.
            If analog operators stand behind the readout, what they give for its mean so far.

        Raises:
            SettingsError: the neurons wait for all time steps of their input.

        Example:
            >>> from snn_lightning import convert
            >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
            >>> state = snn.initial_state(torch.tensor([[0.5]]))
            >>> output, state = snn.step(state)
            >>> output, state.t
            (tensor([[1.]]), 1)
        """
        self._check_stepwise()
        after = SimulationState(state.static, dict(state.units), state.t)
        outputs = {name: value[0] for name, value in self._advance(after, 1).items()}
        if self.network.schedule.tail:
            after.totals = {name: state.totals.get(name, 0) + value for name, value in outputs.items()}
            outputs = {name: total / after.t for name, total in after.totals.items()}
        return self.network.arrange(outputs), after

    def _check_stepwise(self) -> None:
        if self._windowed:
            raise SettingsError(
                f"Neurons {self.neuron!r} wait for all {self.timesteps} time steps of their input: simulate "
                "them together, snn(x) or snn.running_mean(x)"
            )

    def _image_chunks(self, x: Tensor, steps: int) -> Iterator[Tensor]:
        x = self._received(x)
        # A graph is for any number of images: it has no loop over them.
        return iter((x,) if torch.compiler.is_compiling() else x.split(self._images_of(steps)))

    def _received(self, x: Tensor) -> Tensor:
        """Return the inputs in the type of the network, whatever an autocast around it has made of them."""
        if not isinstance(x, Tensor):
            raise ConversionError(f"The spiking network takes one tensor [N, ...], got {type(x).__name__}.")
        if self.listener is not None:
            self.listener(x)
        if x.is_floating_point() and in_autocast(x.device):
            tensors = chain(self.parameters(), self.buffers())
            x = x.to(next((part.dtype for part in tensors if part.is_floating_point()), x.dtype))
        return x

    def _simulate(self, x: Tensor, window: int, until: int) -> Iterator[dict[str, Tensor]]:
        """Yield the readouts `[t, N, ...]` of consecutive chunks of time, t = 1...until in all, by unit.

        A window is simulated in `window` steps, T or 1.
        """
        state, longest = self._begin(x, window), self.steps_at_once(x.shape[0])
        if self._windowed:
            outputs = self._advance(state, window)
            yield {name: value[:until] for name, value in outputs.items()}
        while state.t < until:
            yield self._advance(state, min(longest, until - state.t))

    def _advance(
        self, state: SimulationState, steps: int, record: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Run the last window for `steps` time steps; updates `state`, returns readouts `[steps, N, ...]`."""
        schedule = self.network.schedule
        outputs: dict[str, Tensor] = {}
        values = self._run(schedule.regions[-1], state, steps, record)
        for name in schedule.outputs.values():
            last = schedule.windows[name] == schedule.regions[-1].window
            value = values[name] if last else state.static[name][None]
            outputs[name] = value.expand(steps, *value.shape[1:])
        return outputs

    def _begin(self, x: Tensor, window: int, record: dict[str, Tensor] | None = None) -> SimulationState:
        """Run all windows but the last, in `window` steps each; return the state before it."""
        state = SimulationState({INPUT: x})
        *earlier, last = self.network.schedule.regions
        longest = window if record is not None else self.steps_at_once(x.shape[0])
        for region in earlier:
            enter(self.network, state, region)
            totals: dict[str, Tensor] = {}
            while state.t < window:
                values = self._run(region, state, min(longest, window - state.t), record)
                totals = {name: totals.get(name, 0) + values[name].sum(0) for name in region.means}
            state.static.update({name: total / window for name, total in totals.items()})
        enter(self.network, state, last)
        return state

    def _run(
        self, region: Region, state: SimulationState, steps: int, record: dict[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """Run a window for `steps` time steps; updates `state`, returns what is alive, `[steps, N, ...]`."""
        simulation = Simulation(self.network, self.units, state, steps, region.window, record)
        simulation.region(region)
        state.t += steps
        return {**simulation.values, **simulation.outputs}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if not any(key.startswith(f"{prefix}units.") for key in state_dict):
            raise CheckpointError(
                "The checkpoint holds the weights of an ANN, but the model has been converted to an SNN. To "
                "test the SNN pass it: trainer.test(model) rather than trainer.test(). To go back to the "
                "ANN build it anew."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def spec(self) -> dict[str, Any]:
        """Return everything but the parameters as plain numbers, strings, tuples, lists and dicts."""
        spec = {
            "format": FORMAT,
            "network": self.network.spec(),
            "conversion": self.conversion.spec(),
            "status": self.status,
            "shapes": {name: list(shape) for name, shape in self.network.shapes.items()},
        }
        return {**spec, "unit_spikes": True} if self.unit_spikes else spec

    @classmethod
    def from_spec(
        cls,
        spec: Mapping[str, Any],
        state: Mapping[str, Tensor] | None = None,
        ann: nn.Module | None = None,
    ) -> SpikingModel:
        """Rebuild a model from `spec()`; load its parameters with `load_state_dict`.

        Args:
            spec: the description.
            state: the parameters that will be loaded; a description of other sizes is refused before memory
                is taken for it.
            ann: the network that was converted, where modules of the user's own are left analog.

        Raises:
            CheckpointError: the description makes no sense here, or does not fit `state`; or a module of the
                user's own is missing.
        """
        if not isinstance(spec, Mapping) or spec.get("format") not in range(1, FORMAT + 1):
            found = spec.get("format") if isinstance(spec, Mapping) else spec
            raise CheckpointError(
                f"The checkpoint describes its network in format {found!r}, and this version of "
                f"snn_lightning reads formats 1 to {FORMAT}: it is damaged or of another version; calibrate "
                "the ANN again."
            )
        sizes = None if state is None else _part(state, "network.")
        try:
            with alone(devices=[]):
                network = StageNetwork.from_spec(spec["network"], sizes, ann)
                model = cls(network, _conversion_of(spec, network))
            model.status, model.unit_spikes = spec["status"], spec.get("unit_spikes", False)
            model.network.shapes = {name: tuple(shape) for name, shape in spec.get("shapes", {}).items()}
        except (KeyError, TypeError, SettingsError) as error:
            raise CheckpointError(
                f"The checkpoint is damaged or of another version: {error}; calibrate the ANN again."
            ) from error
        return model.eval()


def _conversion_of(spec: Mapping[str, Any], network: StageNetwork) -> Conversion:
    """Return how a network was converted; what formats 1 to 3 don't say of it shows in part."""
    if spec["format"] > 3:
        return Conversion.from_spec(spec["conversion"])
    neuron = neuron_from_spec(spec["neuron"]) if "neuron" in spec else IF()
    precision, graph = spec.get("precision", "float32"), asdict(settings_from(network))
    return Conversion(spec["timesteps"], neuron=neuron, precision=precision, **graph)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
