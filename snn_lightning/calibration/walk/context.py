"""What a calibration step sees of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor

from snn_lightning.calibration.walk.cache import Cache, Entry, StoredSpikes
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.division import Division
from snn_lightning.calibration.walk.places import alike
from snn_lightning.graph.ir import Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking import kernels
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.simulation import TimeInterpreter
from snn_lightning.spiking.units import Emission, State, Unit

Stored = Sequence[Sequence[Entry | StoredSpikes]]
"""A value of the SNN: for each chunk of images its parts of time, or one entry where it is static."""


@dataclass
class StepReport:
    """What a step did.

    Args:
        before: relative squared error ||x - rate||^2 / ||x||^2 before the step; NaN where it was not
            measured.
        after: the same after it; NaN where the next simulation measures it.
        details: more plain numbers for the log.
    """

    before: float
    after: float = float("nan")
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathered:
    """Calibration images of one size.

    Args:
        indices: their numbers in the whole set, `[N]`.
        targets: the ANN's activations, `[N, C, ...]`.
        inputs: means over time of everything the stage reads, `[N, ...]`, by name.
    """

    indices: Tensor
    targets: Tensor
    inputs: dict[str, Tensor]


@dataclass
class StageContext(Division):
    """A stage under calibration, on this process's share of the calibration images.

    The images lie in chunks; chunk `i` holds the images `indices[i]` of the whole set.

    Args:
        stage: the stage.
        snn: the spiking model; its operators and unit are calibrated in place.
        ann: the normalised ANN.
        ann_inputs: the ANN's values that the stage reads, a chunk each, `[n, ...]`.
        activations: the ANN's activation x at the unit, a chunk each, `[n, C, ...]`.
        ann_exports: the ANN's operator values that later stages read.
        inputs: the SNN's values that the stage reads; temporal ones `[steps, n, ...]` for each part of time,
            static ones `[n, ...]`.
        indices: numbers of each chunk's images in the whole calibration set, `[n]`.
        total: number of images of the whole set, over all processes.
        fitted: the first so many are fitted to; by the rest, held out, a step chooses how far it goes.
        cache: where currents are held between simulations.
        communicator: connects the processes.
        seed: for this stage's private generator.
        iteration: called with (iteration, iterations, loss) during long loops.
        origins: the number of the original of each image of the whole set; of an original its own.
    """

    stage: Stage
    snn: SpikingModel
    ann: StageNetwork
    ann_inputs: dict[str, list[Entry]]
    activations: list[Entry]
    ann_exports: dict[str, list[Entry]]
    inputs: dict[str, Stored]
    indices: list[Tensor]
    total: int
    fitted: int
    cache: Cache
    communicator: Communicator
    seed: int
    iteration: Callable[[int, int, float], None]
    origins: Sequence[int]
    exports: dict[str, list[list[Entry | StoredSpikes]]] = field(default_factory=dict)
    _currents: dict[tuple[int, int], Entry] = field(default_factory=dict)
    _remembered: dict[tuple[str, str, int], Entry] | None = None

    @property
    def unit(self) -> Unit:
        """The stage's neuron, gate or readout."""
        return cast(Unit, self.snn.units[self.stage.name])

    @property
    def timesteps(self) -> int:
        """T."""
        return self.snn.timesteps

    @property
    def steps(self) -> int:
        """Time steps that are simulated, T or 1; see `Conversion.simulated_steps`."""
        return self.snn.simulated_steps

    @property
    def device(self) -> torch.device:
        """Where the calibration runs."""
        return self.activations[0].device

    def changes(self, key: str) -> bool:
        """Whether a value that the stage reads or computes changes in time; else it is static."""
        return key in self.snn.network.schedule.changing[self.stage.window]

    def count(self, images: int | None) -> int:
        """Return how many images a step uses over all processes, given its setting; None for all."""
        return self.total if images is None else images

    def chunks(self, images: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield the chunks with some of the first `images` images of the whole set, and how many they hold.

        The first chunk always comes, perhaps with none, so that every process knows the shapes.
        """
        for i, index in enumerate(self.indices):
            inside = len(index) if images is None else int((index < images).sum())
            if inside or i == 0:
                yield i, inside

    def simulate(self, images: int | None = None, hold: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Simulate the stage with its present parameters.

        Args:
            images: only the first so many images of the whole set.
            hold: keep the currents as far as the cache has room, so that the next simulation only runs the
                neurons again.

        Yields:
            The ANN's activation `[n, C, ...]` and the simulated rate `[n, C, ...]` of each chunk.
        """
        for i, inside in self.chunks(images):
            total: Tensor | None = None
            for emission in self.emit(i, hold, keep=False):
                total = emission.total if total is None else total.add_(emission.total)
            assert total is not None
            yield self.activations[i].get()[:inside], total.div_(self.steps)[:inside]

    def emit(
        self, i: int, hold: bool = False, keep: bool = True, unit: Unit | None = None
    ) -> Iterator[Emission]:
        """Simulate the stage on chunk `i`.

        Args:
            i: number of the chunk.
            hold: see `simulate`.
            keep: whether the output over time is wanted, or its sum only.
            unit: another unit in place of the stage's own.

        Yields:
            What the unit gives out in consecutive parts of time.
        """
        state: State = None
        unit = unit or self.unit
        static = not self.changes(self.stage.current)
        for j, steps in enumerate(parts_of_time(self.snn, len(self.indices[i]))):
            if j == 0 or not static:
                current = self._current(i, j, steps, hold)
            emission = unit.emit(current, state, steps, static, keep)
            state = emission.state
            yield emission

    def currents(self) -> Iterator[Tensor]:
        """Return the simulated current into the unit, without the unit's own bias.

        Currents are held as far as the cache has room, so that the next simulation only runs the neurons.

        Yields:
            Parts of time of each chunk, `[steps, n, C, ...]`; one step where the current is static.
        """
        static = not self.changes(self.stage.current)
        for i, index in enumerate(self.indices):
            parts = parts_of_time(self.snn, len(index))
            for j, steps in enumerate(parts[:1] if static else parts):
                current = self._current(i, j, steps, hold=True)
                yield current[None] if static else current

    @contextmanager
    def held(self, i: int) -> Iterator[None]:
        """Compute the currents on chunk `i` once for all simulations inside the context.

        Those that the cache has no room for lie on disk, until the context is left.
        """
        static = not self.changes(self.stage.current)
        parts, spilled = parts_of_time(self.snn, len(self.indices[i])), []
        for j, steps in enumerate(parts[:1] if static else parts):
            current = self._current(i, j, steps, hold=True)
            if (i, j) not in self._currents:
                self._currents[i, j] = self.cache.put(current)
                spilled.append((i, j))
        yield
        for key in spilled:
            self._currents.pop(key).free()

    def input_rate(self, key: str, i: int) -> Tensor:
        """Return the mean over time of a value that the stage reads, of chunk `i`, `[n, ...]`."""
        parts = self.inputs[key][i]
        if not self.changes(key):
            return parts[0].get()

        return self._once(("mean", key, i), lambda: mean_over_time(parts, self.steps))

    @torch.no_grad()
    def ann_value(self, key: str, i: int) -> Tensor:
        """Return what the ANN's operators of the stage give at `key` on chunk `i`, `[n, ...]`."""

        def compute() -> Tensor:
            read = {name: self.ann_inputs[name][i].get() for name in self.stage.inputs}
            return self.ann.run_operators(self.stage.operators, read)[key]

        return self._once(("ann", key, i), compute)

    @torch.no_grad()
    def mean_values(self, i: int) -> dict[str, Tensor]:
        """Return the means over time of what the stage reads and of what its operators give, by name.

        Operators have their present parameters, neurons don't come in; of chunk `i`, `[n, ...]`.
        """
        read = {key: self.input_rate(key, i) for key in self.stage.inputs}
        return self.snn.network.run_operators(self.stage.operators, read)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Compute mean inputs and the ANN's values once inside the context, as far as the cache has room."""
        self._remembered = {}
        try:
            yield
        finally:
            for entry in self._remembered.values():
                entry.free()
            self._remembered = None

    def _once(self, key: tuple[str, str, int], compute: Callable[[], Tensor]) -> Tensor:
        if self._remembered is None:
            return compute()
        if key in self._remembered:
            return self._remembered[key].get()
        value = compute()
        if self.cache.has_room(value):
            self._remembered[key] = self.cache.put(value)
        return value

    def gathered(self) -> list[Gathered]:
        """Return all images of this process, those of each size together, in the cache's workspace."""
        return [
            Gathered(
                torch.cat([self.indices[i] for i in chunks]),
                self._gather(chunks, lambda i: self.activations[i].get()),
                {key: self._gather(chunks, partial(self.input_rate, key)) for key in self.inputs},
            )
            for chunks in alike([self._shapes(i) for i in range(len(self.indices))])
        ]

    def _shapes(self, i: int) -> tuple[torch.Size, ...]:
        """Return the shapes, without the images, of what the stage reads and gives on chunk `i`."""
        entries = [self.activations[i], *(stored[i] for stored in self.ann_inputs.values())]
        return tuple(entry.shape[1:] for entry in entries)

    def _gather(self, chunks: Sequence[int], get: Callable[[int], Tensor]) -> Tensor:
        result, start = torch.empty(0), 0
        for i in chunks:
            chunk = get(i)
            if start == 0:
                count = sum(len(self.indices[i]) for i in chunks)
                result = self.cache.workspace((count, *chunk.shape[1:]), chunk)
            result[start : start + len(chunk)] = chunk
            start += len(chunk)
        return result

    def one_size(self) -> bool:
        """Whether the activation has one shape on all images, over all processes."""
        mine = {tuple(entry.shape[1:]) for entry in self.activations}
        first = self.communicator.broadcast(min(mine))
        differ = torch.tensor(float(mine != {first}), device=self.device)
        return self.communicator.sum(differ).item() == 0

    def forget_chunk(self, i: int) -> None:
        """Free the held currents of chunk `i`."""
        for key in [key for key in self._currents if key[0] == i]:
            self.cache.retire(self._currents.pop(key))

    def forget_currents(self) -> None:
        """Free the held currents; to be called when the stage's operators have changed."""
        for i in range(len(self.indices)):
            self.forget_chunk(i)
        for stored in self.exports.values():
            for parts in stored:
                for export in parts:
                    export.free()
        self.exports.clear()

    def _current(self, i: int, j: int, steps: int, hold: bool) -> Tensor:
        """Return the unit's current in part `j` of time on chunk `i`."""
        if (i, j) in self._currents:
            return self._currents[i, j].get()
        network, stage = self.snn.network, self.stage
        values = {key: stored[i][j if self.changes(key) else 0].get() for key, stored in self.inputs.items()}
        simulation = TimeInterpreter(network, values, steps, stage.window)
        simulation.carry_out(network.schedule.runs[stage.name])
        results = simulation.values
        for key in stage.exports:
            temporal = self.changes(key)
            parts = self.exports.setdefault(key, [[] for _ in self.indices])[i]
            if len(parts) == (j if temporal else 0):
                parts.append(
                    self.cache.put_output(results[key]) if temporal else self.cache.put(results[key])
                )
        current = results[stage.current]
        if hold and self.cache.has_room(current):
            self._currents[i, j] = self.cache.put(current)
            self.cache.free_retired(current)
        return current


def mean_over_time(parts: Sequence[Entry | StoredSpikes], steps: int) -> Tensor:
    """Return the mean of a value over all its parts of time, `[n, ...]`."""
    return cast(Tensor, sum(part.get().sum(0) for part in parts)) / steps


def parts_of_time(snn: SpikingModel, images: int) -> list[int]:
    """Return how many time steps are simulated at once, one part after the other, for so many images."""
    longest, steps = snn.steps_at_once(images), snn.simulated_steps
    return [min(longest, steps - t) for t in range(0, steps, longest)]


class RelativeError:
    """Accumulates ||x - rate||^2 / ||x||^2 (PC 3.4) over chunks and processes."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    def add(self, x: Tensor, rate: Tensor) -> Tensor:
        """Count a chunk of activations and rates of equal shape, `[N, C, ...]`.

        Returns:
            The sum over images of the spatial mean of x - rate (PC eq. 19), `[C]`, float64.
        """
        # Values without channels are one channel.
        shape = x.shape if x.dim() > 1 else (*x.shape, 1)
        sums = kernels.error_sums(x.view(shape), rate.view(shape))
        self.sums += sums[1:].sum(1)
        return (sums[0] / x.shape[2:].numel()).view(x.shape[1:2])

    def value(self, communicator: Communicator) -> float:
        """Return the error over all processes."""
        error, norm = communicator.sum(self.sums.clone()).tolist()
        return error / norm if norm > 0 else float(error > 0)
