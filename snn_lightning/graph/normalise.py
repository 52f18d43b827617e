"""From the user's module to a verified network of stages."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_lightning.errors import ConversionError
from snn_lightning.graph.capture import rules as _rules  # noqa: F401  (registers the rules)
from snn_lightning.graph.capture.bounded import plain_activations
from snn_lightning.graph.capture.choice import Choice
from snn_lightning.graph.capture.lowering import Lowering, Obstacle
from snn_lightning.graph.capture.rules.vision import register_torchvision
from snn_lightning.graph.capture.trace import copied, describe_path, trace, unwrap
from snn_lightning.graph.ir import INPUT
from snn_lightning.graph.network import StageNetwork, require_sites
from snn_lightning.graph.operators import traits_of
from snn_lightning.graph.passes.fold import fold_batch_norms
from snn_lightning.graph.passes.pooling import convert_average_pooling
from snn_lightning.graph.precision import own_precision
from snn_lightning.graph.settings import GraphSettings
from snn_lightning.graph.threads import alone
from snn_lightning.plugins import load_plugins

LARGEST_ERROR = 1e-4
"""Largest relative error allowed between the ANN and its normalised graph."""


def normalise(
    ann: nn.Module, sample: Tensor, others: Sequence[Tensor] = (), analog: str | Sequence[str] = ()
) -> StageNetwork:
    """Return `ann` as plain operators with its batch norms folded, after checking that it computes the same.

    A `BoundedActivation` is compared in its site's form: what else it does in the ANN, such as
    quantising, belongs to the pretraining and is no part of the network.

    Args:
        ann: the user's network; left as it is.
        sample: inputs `[N, ...]` on the ANN's device.
        others: inputs of other sizes, `[N, ...]` each, on which it must compute the same too.
        analog: what is left as it is; see `GraphSettings`.

    Raises:
        ConversionError: lists every operator that can't be converted, or names what differs.

    Example:
        >>> ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).eval()
        >>> network = normalise(ann, torch.rand(2, 1, 4, 4))
        >>> [node.op for node in network.nodes.values()]
        ['Conv2d', 'Activation']
    """
    if isinstance(sample, Tensor) and sample.is_meta:
        raise ConversionError(
            "The sample, or the ANN, is on the meta device, which holds no numbers; only conversion_report "
            "works there. Load the ANN's weights and pass real inputs."
        )
    ann = unwrap(ann)
    with alone(devices=[]):
        network = lower(ann, sample, analog)
        # A forward may leave something behind in its modules; so does `eval`.
        ann = copied(ann).eval()
        with (
            torch.no_grad(),
            plain_activations(ann),
            plain_activations(network),
            own_precision("float32", sample.device),
        ):
            for part in (sample[:1], sample):
                _check_equal(ann(part.clone()), _run(network, part), "output")
            _check_apart(network, sample)
            for part in others:
                _check_size(ann, network, part, sample)
    return network


def _check_apart(network: StageNetwork, sample: Tensor) -> None:
    """Refuse analog operators that mix images: a spiking network cuts batches as it likes."""
    analog = [name for name, operator in network.operators.items() if traits_of(operator).analog]
    if not analog:
        return
    several = sample if len(sample) > 1 else torch.cat([sample, torch.zeros_like(sample)])
    beside, single = (network.run_operators(network.nodes, {INPUT: x}) for x in (several, several[:1]))
    for name in analog:
        first, by_itself = beside[name][:1].double(), single[name].double()
        if not (first - by_itself).norm() <= LARGEST_ERROR * by_itself.norm().clamp(min=1e-12):
            node = network.nodes[name]
            raise ConversionError(
                f"{network.title(name).removeprefix('analog ')} in {describe_path(node.path)} gives an image "
                "something else where other images are beside it; keep the images of a batch apart (an RNN: "
                "batch_first=True)."
            )


def _run(network: StageNetwork, x: Tensor) -> Any:
    try:
        return network(x)
    except Exception as error:  # what is left analog may raise anything
        raise ConversionError(
            f"The normalised graph fails on {len(x)} of the inputs, where the ANN does not: {error}. Its "
            "forward computes with the size of the batch, or with values; leave the module analog that does, "
            "or make its forward a pure function of the input."
        ) from error


def _check_size(ann: nn.Module, network: StageNetwork, x: Tensor, sample: Tensor) -> None:
    """Check that the network has no constant in it that holds for the size of `sample` alone."""
    try:
        expected = ann(x.clone())
    except RuntimeError as error:
        raise ConversionError(
            f"The ANN takes inputs of {tuple(sample.shape[1:])} and fails on those of {tuple(x.shape[1:])}, "
            f"which are among them too: {error}. Leave these out, or bring all inputs to a form it takes."
        ) from error
    try:
        _check_equal(expected, network(x), "output")
    except (ConversionError, RuntimeError) as error:
        raise ConversionError(
            f"The network is converted for inputs of {tuple(sample.shape[1:])}, and computes something else "
            f"on those of {tuple(x.shape[1:])} ({error}): its forward computes with sizes, which become "
            "constants. Use layers that adapt, such as nn.AdaptiveAvgPool2d, or inputs of one size."
        ) from error


def lower(ann: nn.Module, sample: Tensor, analog: str | Sequence[str] = ()) -> StageNetwork:
    """Return `ann` as plain operators with its batch norms folded, without running the result.

    Args:
        ann: the user's network; left as it is.
        sample: inputs `[N, ...]` on the ANN's device, which may be "meta".
        analog: what is left as it is; see `GraphSettings`.

    Raises:
        ConversionError: lists every operator that can't be converted.
    """
    load_plugins()
    register_torchvision()
    ann = unwrap(ann)
    _check_sample(ann, sample)
    network = fold_batch_norms(_lowered(ann, sample, Choice(analog)))
    require_sites(network)
    return network.eval()


def _lowered(ann: nn.Module, sample: Tensor, choice: Choice) -> StageNetwork:
    lowering = Lowering(trace(ann, choice, sample), choice)
    try:
        network = lowering.lower(_few(ann, sample) if choice.leaves_any else sample[:2])
    except ConversionError as error:
        if new := lowering.tail() - choice.tail:
            choice.tail |= new
            with suppress(ConversionError):  # then what stood in the way at first is the whole story
                return _lowered(ann, sample, choice)
        places = [obstacle.path for obstacle in error.obstacles if isinstance(obstacle, Obstacle)]
        if places and choice.widen(places):
            return _lowered(ann, sample, choice)
        if places:
            choice.check()
        raise
    choice.check()
    return network


def _few(ann: nn.Module, sample: Tensor) -> Tensor:
    """Return inputs `[N, ...]` whose number N is no other size, so that a first dimension of N is the batch.

    Analog calls may give anything: only sizes tell what is the same for every input.
    """
    tensors = (sample[0], *ann.parameters(), *ann.buffers())
    sizes = {size for tensor in tensors for size in tensor.shape}
    sizes |= {value for module in ann.modules() for value in vars(module).values() if isinstance(value, int)}
    # Hidden states have twice their layers where they are bidirectional.
    number = next(number for number in count(5, 2) if number not in sizes)
    return torch.cat([sample[:number]] * number)[:number]


def prepare(network: StageNetwork, sample: Tensor, settings: GraphSettings | None = None) -> StageNetwork:
    """Let pooling become what it shall be in the spiking network.

    Args:
        network: a normalised ANN.
        sample: inputs `[N, ...]`, to know the sizes that adaptive pooling meets and those of the sites.
        settings: what it shall be, `GraphSettings()` by default.

    Returns:
        A network with the same parameters (shared, not copied).

    Example:
        >>> sample = torch.rand(2, 1, 4, 4)
        >>> network = normalise(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), sample)
        >>> averaged = prepare(network, sample, GraphSettings(max_pooling="average"))
        >>> [node.op for node in averaged.nodes.values()]
        ['Activation', 'AvgPool2d']
    """
    settings = settings or GraphSettings()
    nodes, modules, gates = dict(network.nodes), dict(network.operators.items()), set()
    for name, node in network.nodes.items():
        if name not in network.temporal or traits_of(modules[name]).pools != "max":
            continue
        if settings.max_pooling == "gated":
            gates.add(name)
        elif settings.max_pooling == "average":
            nodes[name], modules[name] = _averaged(node, modules[name])
    network = StageNetwork(nodes.values(), network.output, modules, gates)
    if settings.convert_avg_pool:
        network = convert_average_pooling(network, sample)
    with torch.no_grad():
        values = network.run_operators(network.nodes, {INPUT: sample[:1]})
    network.shapes = {name: tuple(values[name].shape[1:]) for name in (INPUT, *network.sites)}
    return network.eval()


def _averaged(node: Any, module: nn.Module) -> tuple[Any, nn.Module]:
    average, settings = cast(type[nn.Module], traits_of(module).average), dict(node.settings)
    if "dilation" in settings and settings.pop("dilation") not in (1, (1,), (1, 1), (1, 1, 1)):
        raise ConversionError(
            f"The dilated max pool '{node.path}' can't become an average; use max_pooling='gated'."
        )
    pool: Any = average(**settings)
    if hasattr(pool, "count_include_pad"):
        # As a maximum, the mean is taken over the inputs that exist.
        settings["count_include_pad"] = pool.count_include_pad = False
    return replace(node, op=average.__name__, settings=settings), pool


def _check_sample(ann: nn.Module, sample: Tensor) -> None:
    if not isinstance(sample, Tensor):
        raise ConversionError(
            f"The network's input must be one tensor [N, ...], got {type(sample).__name__}. "
            "Wrap the model in a module that takes a tensor."
        )
    if sample.dim() < 2 or sample.shape[0] == 0:
        raise ConversionError(
            f"The sample must be a batch of inputs [N, ...], got shape {tuple(sample.shape)}."
        )
    if _not_finite(sample):
        raise ConversionError("The sample has NaN or infinite values; clean the inputs first.")
    for name, tensor in (*ann.named_parameters(), *ann.named_buffers()):
        if tensor.device != sample.device:
            raise ConversionError(
                f"The ANN's '{name}' is on {tensor.device} and the sample on {sample.device}; move one of "
                "them."
            )
        if _not_finite(tensor):
            raise ConversionError(
                f"The ANN's '{name}' has NaN or infinite values: its training has diverged."
            )


def _not_finite(tensor: Tensor) -> bool:
    known = tensor.is_floating_point() and not tensor.is_meta
    return known and not torch.isfinite(tensor).all()


def _check_equal(expected: Any, got: Any, where: str) -> None:
    if isinstance(expected, Tensor):
        if _not_finite(expected):
            raise ConversionError(
                f"The ANN itself gives NaN or infinite values at its {where} on the sample: clean the "
                "inputs, or find the operator in the ANN that divides by zero or overflows."
            )
        scale = cast(float, expected.double().norm().item())
        same = expected.shape == got.shape
        error = (expected.double() - got.double()).norm().item() / max(scale, 1e-12) if same else math.inf
        if not error < LARGEST_ERROR:
            raise ConversionError(
                f"The normalised graph does not reproduce the ANN: relative error {error:.2g} at its {where} "
                f"(allowed {LARGEST_ERROR:g}). The model's result depends on something the graph does not "
                "show, such as state, randomness, the batch size or a view changed in place; make its "
                "forward a pure function of the input."
            )
    elif isinstance(expected, dict):
        if type(expected) not in (dict, OrderedDict):
            raise ConversionError(
                f"The network returns a {type(expected).__name__} at its {where}, which a spiking network "
                "can't give back: return a plain dict, a tuple or a tensor."
            )
        for key, part in expected.items():
            _check_equal(part, got[key], f"{where}[{key!r}]")
    elif isinstance(expected, tuple | list):
        for index, part in enumerate(expected):
            _check_equal(part, got[index], f"{where}[{index}]")
