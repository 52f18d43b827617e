"""Where an SNN's activations differ from its ANN's, and why: clipping, quantisation, input, unevenness."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from itertools import zip_longest
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError
from snn_lightning.graph.interpreter import ANNInterpreter
from snn_lightning.graph.ir import INPUT, Node, Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.normalise import normalise, prepare
from snn_lightning.graph.threads import alone
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.spiking.neurons.dynamics import per_channel
from snn_lightning.spiking.neurons.integrate_and_fire import IFNeuron
from snn_lightning.spiking.units import Unit
from snn_lightning.tables import aligned

Means = dict[str, tuple[Tensor, Tensor]]
"""By unit: mean current into it, and rate that it gives, both `[N, ...]`."""


@dataclass(frozen=True)
class Parts:
    """One number for each reason why a rate differs from the ANN's activation.

    Args:
        clipping: more than a spike (a burst) at every step can tell.
        quantisation: whole numbers of spikes.
        input: another mean current than the ANN's: what earlier stages deliver, through weights, biases and
            initial potentials that calibration has changed.
        unevenness: the current comes unevenly: spikes that are fired too early, and too late
            ones that are not fired at all.
    """

    clipping: float
    quantisation: float
    input: float
    unevenness: float

    def __iter__(self) -> Iterator[float]:
        return (getattr(self, name) for name in PARTS)


PARTS = tuple(field.name for field in fields(Parts))


@dataclass(frozen=True)
class StageMismatch:
    """The error of a stage, relative to ||x||^2.

    Args:
        name: of the unit.
        kind: "neuron", "gate" or "readout".
        total: ||x - rate||^2.
        shares: <part, x - rate>; they add up to the total. Negative where a part makes up for others.
        norms: ||part||^2, each as large as if it were alone.
    """

    name: str
    kind: str
    total: float
    shares: Parts
    norms: Parts

    @property
    def cross(self) -> float:
        """What the norms lack of the total: products of different parts; negative where they cancel."""
        return self.total - sum(self.norms)


@dataclass(frozen=True)
class MismatchReport:
    """The error of each stage by its reason; print it for a table. From `measure_mismatch`.

    Args:
        stages: in topological order.
        timesteps: T.
        images: how many were simulated.
    """

    stages: tuple[StageMismatch, ...]
    timesteps: int
    images: int

    @property
    def mean(self) -> StageMismatch:
        """The mean over the sites, each counted once."""
        sites = [stage for stage in self.stages if stage.kind == "neuron"]

        def mean(numbers: Iterable[float]) -> float:
            return sum(numbers) / len(sites)

        shares, norms = (
            Parts(*(mean(part) for part in zip(*all_parts, strict=True)))
            for all_parts in ([s.shares for s in sites], [s.norms for s in sites])
        )
        return StageMismatch("mean of the sites", "neuron", mean(s.total for s in sites), shares, norms)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("stage", *PARTS, "total", *(f"‖{part}‖²" for part in PARTS), "cross"),
        ]
        for s in (*self.stages, self.mean):
            shares, norms = (tuple(map(_text, parts)) for parts in (s.shares, s.norms))
            if s.kind != "neuron":
                shares, norms = (("-", "-", parts[2], "-") for parts in (shares, norms))
            rows.append((s.name, *shares, _text(s.total), *norms, _text(s.cross)))
        return "\n".join(
            [
                f"Error over ‖x‖² at T={self.timesteps}, {self.images} images: shares of the total, and each "
                "part alone",
                *aligned(rows),
            ]
        )


def _text(number: float) -> str:
    return f"{round(number, 4) + 0.0:.4f}"


@torch.no_grad()
def measure_mismatch(ann: nn.Module, snn: SpikingModel, images: Tensor) -> MismatchReport:
    """Split the error of every site of `snn` into clipping, quantisation, input and unevenness.

    With the ANN's activation x at z = its current, and the SNN's mean current z' and rate s̄ as simulated,

        x -> clip(z, 0, n v_th) -> ClipRound(z) -> rate(z') -> s̄

    whose four differences are the parts. n is the neuron's most spikes a step; ClipRound (PC eq. 17) rounds
    with half a threshold, as an uncalibrated neuron; rate is `expected_rate`, what this neuron would fire if
    its current came evenly. The first two are the local error of PC 4.1, here at the ANN's own current
    (calibrated potentials and biases are none of it); PC eq. 13 has the third. A neuron whose potential and
    bias are 0 floors, and then ClipFloor (PC eq. 10) takes the place of ClipRound. A gate passes the maximum
    of the rates, and the readout what it gets: all of their error is input.

    The squares of the parts don't add up, since parts make up for each other (a calibrated potential for
    unevenness, above all). So there are two readings: `norms` are the squares, and `shares` the projections
    <part, x - s̄>, which add up to the total exactly. Both depend on the order of the chain. The input is
    what is left of all earlier stages' parts.

    Args:
        ann: the network that was converted, or its normalised `StageNetwork`; left as it is.
        snn: the spiking network, in eval mode, on the ANN's scale (before `rescale_to_unit_spikes`).
        images: `[N, ...]` on their device.

    Returns:
        Numbers over ||x||^2 of all images and positions of a stage (1 in total where x is 0 and s̄ is not).

    Raises:
        ConversionError: the ANN can't be converted.
        SettingsError: there is no image, or `snn` is no SNN of this ANN.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> report = measure_mismatch(ann, convert(ann, torch.rand(8, 2), timesteps=4), torch.rand(8, 2))
        >>> [stage.kind for stage in report.stages]
        ['neuron', 'readout']
    """
    if len(images) == 0:
        raise SettingsError("measure_mismatch needs at least one image")
    network = counterpart(ann, snn, images)
    split = _Split(network, snn)
    for chunk in images.split(snn.images_at_once):
        with averaging(snn) as means:
            snn(chunk)
        split.count(chunk, means)
    return MismatchReport(split.mismatches(), snn.timesteps, len(images))


class _Split(ANNInterpreter):
    """Runs the ANN beside the means of the SNN, and adds up the parts of each unit's error.

    Args:
        network: the ANN.
        snn: the spiking network.
    """

    def __init__(self, network: StageNetwork, snn: SpikingModel) -> None:
        super().__init__(network, {})
        self.snn, self.means = snn, Means()
        self.ideals = {name: _uncalibrated(unit, snn.timesteps) for name, unit in snn.neurons.items()}
        # Of each stage the inner products of its parts with each other, [4, 4], and ||x||^2.
        self.products = {s.name: torch.zeros(4, 4, dtype=torch.float64) for s in network.stages}
        self.squares = dict.fromkeys(self.products, 0.0)

    def count(self, images: Tensor, means: Means) -> None:
        """Add up the errors on `images`, `[N, ...]`, whose simulation gave `means`."""
        self.values, self.means = {INPUT: images}, means
        self.interpret()

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        """Return the stage's activation, and count its error."""
        x = super().unit(stage, current)
        mean, rate = self.means.pop(stage.name)
        unit, timesteps, chain = cast(Unit, self.snn.units[stage.name]), self.snn.timesteps, [x, rate]
        if isinstance(unit, IFNeuron):
            highest = unit.highest * per_channel(unit.v_th, current)
            rounded = self.ideals[stage.name].expected_rate(current, timesteps)
            delivered = unit.expected_rate(mean, timesteps)
            chain = [x, current.clamp(min=0).minimum(highest), rounded, delivered, rate]
        self.products[stage.name] += _products(chain)
        self.squares[stage.name] += torch.linalg.vector_norm(x, dtype=torch.float64).item() ** 2
        return x

    def mismatches(self) -> tuple[StageMismatch, ...]:
        """Return the errors counted so far."""
        return tuple(_mismatch(s, self.products[s.name], self.squares[s.name]) for s in self.network.stages)


def _products(chain: list[Tensor]) -> Tensor:
    """Return the inner products `[4, 4]`, float64, of a chain's differences; of a single one as the input."""
    values = torch.stack([value.flatten() for value in chain]).double()
    parts = values[:-1] - values[1:]
    if len(parts) == 1:
        parts = torch.cat([torch.zeros_like(parts).expand(2, -1), parts, torch.zeros_like(parts)])
    return (parts @ parts.T).cpu()


def _mismatch(stage: Stage, products: Tensor, square: float) -> StageMismatch:
    total = products.sum().item()
    relative = products / (square or total or 1.0)
    shares, norms = Parts(*relative.sum(1).tolist()), Parts(*relative.diag().tolist())
    return StageMismatch(stage.name, stage.kind, relative.sum().item(), shares, norms)


def _uncalibrated(unit: IFNeuron, timesteps: int) -> IFNeuron:
    """Return a copy with the same threshold that rounds, or floors where `unit` does."""
    floors = not (unit.v_init.any() or unit.bias.any())
    unit = copy.deepcopy(unit)
    unit.set_threshold(unit.v_th, "floor" if floors else "potential", timesteps)
    return unit


@contextmanager
def averaging(snn: SpikingModel) -> Iterator[Means]:
    """Take the means over time of what the units get and give while `snn` simulates inside the context.

    Of one batch of at most `snn.images_at_once` images.

    Yields:
        The means; filled when the context ends, `[N, ...]`.

    Example:
        >>> from snn_lightning import convert
        >>> snn = convert(nn.ReLU(), torch.tensor([[1.0]]), timesteps=4)
        >>> with averaging(snn) as means:
        ...     readout = snn(torch.tensor([[0.5]]))
        >>> current, rate = means["relu"]
        >>> current.item(), rate.item()
        (0.5, 0.5)
    """
    means: Means = {}
    currents: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    # Before the unit runs: it may write over its current.
    def received(name: str, unit: nn.Module, args: Any) -> None:
        current, _, steps, static = args
        _add(currents, name, current * steps if static else current.sum(0))

    def given(name: str, unit: nn.Module, args: Any, output: Any) -> None:
        _add(outputs, name, output[0].sum(0))

    handles = []
    for name, unit in snn.units.items():
        handles.append(unit.register_forward_pre_hook(partial(received, name)))
        handles.append(unit.register_forward_hook(partial(given, name)))
    try:
        yield means
    finally:
        for handle in handles:
            handle.remove()
    for name in outputs:
        means[name] = (currents[name] / snn.simulated_steps, outputs[name] / snn.simulated_steps)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def counterpart(ann: nn.Module, snn: SpikingModel, images: Tensor) -> StageNetwork:
    """Return the ANN as the stages from which the SNN was made.

    Args:
        ann: the network that was converted, or its normalised `StageNetwork`; left as it is.
        snn: the spiking network.
        images: `[N, ...]` on their device.

    Raises:
        SettingsError: they are others, or the SNN's spikes are rescaled.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> counterpart(ann, convert(ann, torch.rand(8, 2), timesteps=4), torch.rand(8, 2)).sites
        ('_1',)
    """
    if snn.unit_spikes:
        raise SettingsError(
            "The SNN's spikes are whole numbers, and its rates can't be compared with the ANN's activations: "
            "pass the SNN as it was before rescale_to_unit_spikes"
        )
    with alone():
        network = prepare(normalised(ann, snn, images), images[:1], snn.conversion)
    wanted = snn.network
    if _form(network) == _form(wanted):
        return network
    pairs = zip_longest(wanted.nodes.values(), network.nodes.values())
    differing = (_difference(a, b) for a, b in pairs if _call(a) != _call(b))
    raise SettingsError(
        f"The SNN is not of this ANN: it has {len(wanted.sites)} sites and the ANN {len(network.sites)}, and "
        f"it has {next(differing, 'another output')}. Pass the ANN from which the SNN was made."
    )


def normalised(ann: nn.Module, snn: SpikingModel, images: Tensor) -> StageNetwork:
    """Return the ANN's stages before pooling is chosen; what is normalised already as it is.

    Several measurements of one network need it once.

    Example:
        >>> from snn_lightning import convert
        >>> ann, images = nn.ReLU(), torch.rand(8, 2)
        >>> network = normalised(ann, convert(ann, images, timesteps=4), images)
        >>> network is normalised(network, convert(ann, images, timesteps=4), images)
        True
    """
    if isinstance(ann, StageNetwork):
        return ann
    with alone():
        return normalise(ann, images[:8], analog=snn.conversion.analog)


def _form(network: StageNetwork) -> Any:
    return [_call(node) for node in network.nodes.values()], network.gates, network.output


def _call(node: Node | None) -> Any:
    return node and (node.name, node.op, node.inputs, node.settings)


def _difference(a: Node | None, b: Node | None) -> str:
    if a and b and (a.name, a.op) == (b.name, b.op):
        kept, other = ({**node.settings, "inputs": node.inputs} for node in (a, b))
        key = next(key for key in {**kept, **other} if kept.get(key) != other.get(key))
        return f"{_text_of(a)} with {key}={kept.get(key)} where the ANN has {key}={other.get(key)}"
    return f"{_text_of(a)} where the ANN has {_text_of(b)}"


def _text_of(node: Node | None) -> str:
    return f"'{node.name}' ({node.op})" if node else "nothing"
