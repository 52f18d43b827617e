"""From operations to seconds: by a short measurement on this machine, or from a machine's known speeds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from snn_lightning.analysis.cost.operations import FLOAT, CostEstimate, StageCost
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import traits_of
from snn_lightning.graph.precision import own_precision
from snn_lightning.spiking import kernels
from snn_lightning.spiking.model import ROWS
from snn_lightning.spiking.neurons.config import IF, Neuron
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.packing import SpikeTrain
from snn_lightning.spiking.units import GatedMaxPool


@dataclass(frozen=True)
class Prices:
    """What the operations of one stage cost, in seconds.

    Args:
        forward: the operators, one image.
        unit: all places of the unit, one image and time step.
        look: one pass over the activations of an image: histogram and error.
        hold: fresh memory for the current of an image and time step, kept for the next simulation.
        step: one SGD step; 0 without weights.
    """

    forward: float
    unit: float
    look: float
    hold: float
    step: float = 0.0


@dataclass(frozen=True)
class Machine:
    """A device by its sustained speeds, for prices that are not measured.

    Args:
        macs: multiply-accumulates a second.
        bytes: moved to and from memory a second.
        call: seconds that an SGD step takes however small the stage.
        link: bytes a second of a gradient reduction between processes.
        latency: seconds of a reduction however small.
    """

    macs: float
    bytes: float
    call: float
    link: float = float("inf")
    latency: float = 0.0

    def prices(self, cost: CostEstimate) -> list[Prices]:
        """Return the prices of each stage on this device."""
        return [self._prices(cost, index) for index in range(len(cost.stages))]

    def _prices(self, cost: CostEstimate, index: int) -> Prices:
        stage, work = cost.stages[index], cost.work
        forward = stage.macs / self.macs + FLOAT * (stage.read + 2 * stage.places) / self.bytes
        step = 0.0
        if stage.trained(work):
            # Inputs are gathered and read twice; current, rate and loss are written and read, and backwards.
            numbers = 4 * stage.read + 24 * stage.places
            image = stage.gradient_macs / self.macs + FLOAT * numbers / self.bytes
            step = self.call + work.largest_batch * image
            if work.processes > 1:
                share = 2 * (work.processes - 1) / work.processes
                step += self.latency + share * cost.reduced_bytes(index) / self.link
        # A gate goes over its windows at every step, one after the other.
        moved = 24 * stage.read if stage.kind == "gate" else 3 * stage.places
        return Prices(
            forward=forward,
            unit=FLOAT * moved / self.bytes,
            look=FLOAT * 12 * stage.places / self.bytes,
            hold=FLOAT * stage.places / self.bytes,
            step=step,
        )


NOMINAL = {"cpu": Machine(3e10, 1.2e10, 1.5e-3), "cuda": Machine(3e13, 2e12, 1e-3)}
"""Round figures by type of device, good for comparing the stages of one network with each other."""


@dataclass(frozen=True)
class Seconds:
    """How long a calibration takes.

    Args:
        simulate: for each stage, the walk without weight calibration.
        weights: for each stage, its weight calibration.
        forward: one image through the ANN.
        simulation: one image through the SNN.
        distillation: of the whole network, after all stages.
    """

    simulate: tuple[float, ...]
    weights: tuple[float, ...]
    forward: float
    simulation: float
    distillation: float = 0.0

    @property
    def stages(self) -> list[float]:
        """Seconds of each stage."""
        return [a + b for a, b in zip(self.simulate, self.weights, strict=True)]

    @property
    def calibration(self) -> float:
        """Seconds of the whole calibration."""
        return sum(self.stages) + self.distillation


def estimate_seconds(cost: CostEstimate, prices: Sequence[Prices]) -> Seconds:
    """Turn operations into seconds.

    Args:
        cost: from `estimate_cost`.
        prices: of each stage, from `measure_prices` or `Machine.prices`.

    Example:
        >>> from snn_lightning import LCP
        >>> from snn_lightning.analysis.cost.operations import estimate_cost
        >>> from snn_lightning.graph import normalise
        >>> network = normalise(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.rand(1, 2))
        >>> cost = estimate_cost(network, (2,), LCP(timesteps=4).work(images=100))
        >>> seconds = estimate_seconds(cost, NOMINAL["cpu"].prices(cost))
        >>> len(seconds.stages), seconds.calibration > 0
        (2, True)
    """
    work = cost.work
    pairs = list(zip(cost.stages, prices, strict=True))
    simulation = sum(_rows(stage, work.steps) * p.forward + work.steps * p.unit for stage, p in pairs)
    forward = sum(p.forward for p in prices)
    # Every process steps by itself. A product of matrices takes as long as as many MACs of a forward pass.
    products = sum(s.muon_macs * p.forward / s.macs for s, p in pairs if s.macs)
    return Seconds(
        simulate=tuple(_simulate(cost, i, p) for i, p in enumerate(prices)),
        weights=tuple(_weights(cost, i, p) for i, p in enumerate(prices)),
        forward=forward,
        simulation=simulation,
        distillation=work.share(work.distilled) * (3 * simulation + (forward if work.originals else 0))
        + work.distilled_steps * products,
    )


def _rows(stage: StageCost, timesteps: int) -> float:
    """Forward passes of a stage in a simulation of one image."""
    if stage.static:
        return 1.0
    return stage.simulated_macs(timesteps) / stage.macs if stage.macs else float(timesteps)


def _simulate(cost: CostEstimate, index: int, price: Prices) -> float:
    stage, work = cost.stages[index], cost.work
    rows = _rows(stage, work.steps) * price.forward
    once, held = rows + work.steps * price.unit, cost.held(index)
    again = work.steps * price.unit + (1 - held) * rows + price.look
    again += held * (1 if stage.static else work.steps) * price.hold
    corrected = work.share(work.corrected) if stage.calibrated(work) else 0
    searched = work.share(work.searched) if stage.kind == "neuron" else 0
    again = corrected * again + searched * (work.steps * price.unit + price.look)
    return work.share(work.images) * (price.forward + 2 * price.look + once) + again


def _weights(cost: CostEstimate, index: int, price: Prices) -> float:
    stage, work = cost.stages[index], cost.work
    if stage.solved(work):
        passes = cost.trained_macs(index) / (work.images * stage.macs)
        # Each solution also clips currents and targets and subtracts them.
        looks = 2 * work.solutions * work.share(work.solved)
        return work.share(work.images) * passes * price.forward + looks * price.look
    if not stage.trained(work):
        return 0.0
    # A power iteration is a step and one current more; the error is computed before and after.
    curvature = work.power_iterations * (price.step + work.largest_batch * price.forward)
    errors = 2 * work.share(work.images) * price.forward
    return work.iterations * price.step + curvature + errors


def measure_prices(
    network: StageNetwork,
    sample: Tensor,
    work: Work,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
    neuron: Neuron | None = None,
) -> list[Prices]:
    """Measure each stage on this machine: a few rows of its operators and its unit, and SGD steps.

    SGD steps are measured for as many stages as there is time for, and interpolated for the others. The
    network is left as it is, and no random number is drawn.

    Args:
        network: the normalised and prepared ANN.
        sample: inputs `[N, ...]` on the network's device; one of them is used.
        work: what is to be done.
        seconds: about how long to measure.
        clock: gives seconds.
        neuron: the kind of neurons, `IF()` by default.

    Example:
        >>> from snn_lightning.graph import normalise
        >>> sample = torch.rand(1, 2)
        >>> prices = measure_prices(normalise(nn.ReLU(), sample), sample, Work(images=100, timesteps=4))
        >>> all(price.forward >= 0 for price in prices)
        True
    """
    watch = _Stopwatch(clock, sample.device)
    with torch.no_grad():
        once = watch(lambda: network(sample[:1]), times=1)
        rows = max(1, min(ROWS, int(seconds / 20 / max(once, 1e-9))))
        stages = _Measurement(network, sample[:1], rows, watch, neuron or IF())
        stages.interpret()
    prices, values = stages.prices, stages.values
    if work.iterations:
        started, known = watch.now(), dict[int, float]()
        trained = [i for i, s in enumerate(network.stages) if _trained(network, s, work)]
        trained.sort(key=lambda i: prices[i].forward)
        for i in spread(len(trained)):
            if len(known) >= 2 and watch.now() - started > seconds:
                break
            stage, price = network.stages[trained[i]], prices[trained[i]]
            batch = max(1, round(work.largest_batch))
            # A step is three forwards at the most; if it takes too long, one of fewer images tells as much.
            few = max(1, min(batch, int(seconds / 60 / max(price.forward, 1e-9))))
            known[trained[i]] = _step_seconds(network, stage, values, few, watch) * batch / few
        for i in trained:
            step = interpolate(prices[i].forward, [(prices[k].forward, known[k]) for k in known])
            prices[i] = replace(prices[i], step=known.get(i, step))
    return prices


def spread(count: int) -> list[int]:
    """Return 0...count-1, so that any number of the first are spread evenly: the ends, then the middles.

    Example:
        >>> spread(5)
        [4, 0, 2, 1, 3]
    """
    order, gaps = [count - 1, 0][: min(count, 2)], [(0, count - 1)]
    for low, high in gaps:
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def interpolate(x: float, points: Sequence[tuple[float, float]]) -> float:
    """Return y at `x` on the line through the nearest points (x, y) on both sides; constant beyond them.

    Example:
        >>> interpolate(1.5, [(1.0, 10.0), (2.0, 20.0)])
        15.0
    """
    below = max((p for p in points if p[0] <= x), default=None)
    above = min((p for p in points if p[0] >= x), default=None)
    if below is None or above is None:
        return (below or above or (0.0, 0.0))[1]
    width = above[0] - below[0]
    return below[1] + (above[1] - below[1]) * ((x - below[0]) / width if width else 0.0)


class _Stopwatch:
    """Takes the time of a call, on whatever device it runs."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        self.clock, self.device = clock, device

    def now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return self.clock()

    def __call__(self, function: Callable[[], object], times: int = 5) -> float:
        """Return the median of the seconds that a call takes after the first, which takes longer."""
        spent = []
        for _ in range(1 + times):
            started = self.now()
            function()
            spent.append(self.now() - started)
        return statistics.median(spent[1:])


def _trained(network: StageNetwork, stage: Stage, work: Work) -> bool:
    synapses = any(traits_of(network.operators[name]).weighted for name in stage.operators)
    return synapses and (stage.kind == "neuron" or (stage.kind == "readout" and work.readout))


class _Measurement(ANNInterpreter):
    """Runs one image through the ANN, and each stage again on copies of what it reads, with a stopwatch.

    Args:
        network: the ANN.
        image: `[1, ...]`.
        rows: copies.
        watch: the stopwatch.
        kind: of the neurons.
    """

    def __init__(
        self, network: StageNetwork, image: Tensor, rows: int, watch: _Stopwatch, kind: Neuron
    ) -> None:
        super().__init__(network, {INPUT: image})
        self.rows, self.watch, self.kind = rows, watch, kind
        self.prices: list[Prices] = []

    def free(self, name: str) -> None:
        """Keep the values of one image: SGD steps are measured on them afterwards."""

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Measure the stage."""
        inputs = {key: _copies(self.values[key], self.rows) for key in stage.inputs}
        forward = self.watch(lambda: self.network.run_operators(stage.operators, inputs)) / self.rows
        unit, look, hold = (0.0, 0.0, 0.0) if stage.kind == "readout" else self._unit(stage, current)
        self.prices.append(Prices(forward, unit, look, hold))
        return super().unit(stage, current)

    def _unit(self, stage: Stage, current: Tensor) -> tuple[float, float, float]:
        """Return the prices of a neuron or gate: its steps, a pass over its activations, its memory."""
        rows, watch = self.rows, self.watch
        steps = 8 if rows >= 8 else rows
        current = _copies(current, rows // steps * steps).unflatten(0, (steps, rows // steps))
        operator = cast(nn.Module, self.network.operators[stage.name])
        unit = (self.kind.build() if stage.kind == "neuron" else GatedMaxPool(operator)).to(current.device)

        def fire() -> None:
            output = unit.emit(current, None, steps).output
            train = SpikeTrain.of(output) if isinstance(output, Tensor) else output
            if train is not None:
                train.unpack()

        x = current[0]
        line = torch.zeros(x.shape[1], dtype=torch.int32, device=x.device)
        scale = torch.full((x.shape[1],), 100.0, dtype=x.dtype, device=x.device)
        table = torch.zeros(1, 4096, 2, dtype=torch.float64, device=x.device)

        def look() -> None:
            kernels.histogram(x.clamp(0, 1), line, scale, table)
            kernels.maxima_and_squares(x)
            kernels.error_sums(x, x)

        kept: list[Tensor] = []
        hold = watch(lambda: kept.append(torch.full_like(current, 0.5)))
        count = rows // steps * steps
        return watch(fire) / count, watch(look) / len(x), hold / count


def _copies(value: Tensor, rows: int) -> Tensor:
    copies = value.expand(rows, *value.shape[1:])
    return copies.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else copies.contiguous()


def _step_seconds(
    network: StageNetwork, stage: Stage, values: Mapping[str, Tensor], batch: int, watch: _Stopwatch
) -> float:
    """Measure an SGD step as weight calibration does it, with a learning rate of 0."""
    modules = [network.operators[name] for name in stage.operators]
    weights = [cast(nn.Parameter, m.weight) for m in modules if traits_of(m).weighted]
    inputs = {key: _copies(values[key], batch) for key in stage.inputs}
    target = _copies(values[stage.current], batch)
    rows = torch.arange(batch, device=target.device)
    neuron = IFNeuron().to(target.device)
    optimizer = torch.optim.SGD(weights, lr=0.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)

    def step() -> None:
        read = {key: value[rows] for key, value in inputs.items()}
        current = network.run_operators(stage.operators, read)[stage.current]
        rate = neuron.expected_rate(current, 8) if stage.kind == "neuron" else current
        loss = (rate - target[rows]).square().sum() / batch
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        optimizer.step()
        scheduler.step()

    for weight in weights:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad(), own_precision(network.precision, target.device):
            return watch(step)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None
