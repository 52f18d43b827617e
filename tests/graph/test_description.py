"""What is no network is refused before anything is built."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from snn_lightning.errors import CheckpointError
from snn_lightning.graph import StageNetwork, normalise, prepare

from ..toys import Dense, MaxPooled, inputs, toy

Nodes = list[dict[str, Any]]


def network() -> StageNetwork:
    """conv1, relu, pool, conv2, relu_1, flatten, head; the pool is a gate."""
    x = inputs(MaxPooled, 3)
    return prepare(normalise(toy(MaxPooled), x), x)


def settings(index: int, **changes: Any) -> Callable[[Nodes], None]:
    return lambda nodes: nodes[index]["settings"].update(changes)


def node(index: int, **changes: Any) -> Callable[[Nodes], None]:
    return lambda nodes: nodes[index].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            node(1, inputs=["relu_1"]),
            "'relu' reads 'relu_1' before it is computed.* circle or are out of order",
        ),
        (node(1, inputs=["relu"]), "'relu' reads 'relu' before it is computed"),
        (lambda nodes: nodes.reverse(), "'head' reads 'flatten' before it is computed"),
        (node(3, inputs=["nothing"]), "'conv2' reads 'nothing', which does not exist"),
        (node(3, inputs=[7]), "'conv2' reads 7, which does not exist"),
        (node(3, inputs=["pool", "relu"]), r"'conv2' \(Conv2d\) reads 2 values instead of 1"),
        (node(3, inputs=[]), r"'conv2' \(Conv2d\) reads 0 values instead of 1"),
        (node(4, name="relu"), "two values are called 'relu'"),
        (node(4, name="input"), "two values are called 'input'"),
        (node(4, name="a.b"), "an operator can't be called 'a.b'"),
        (node(4, name="keys"), "an operator can't be called 'keys'"),
        (node(6, op="Sigmoid"), "'head' is an operator 'Sigmoid', which is not known"),
        (lambda nodes: nodes.pop(), "the output reads 'head', which does not exist"),
        (node(2, op="AvgPool2d", settings={"kernel_size": 2}), "the gate 'pool' is no max pool"),
        (node(0, settings=[1]), "the settings of 'conv1' are a list"),
        (settings(0, stride=torch.ones(2)), "the setting 'stride' of 'conv1' is a Tensor"),
        (
            settings(0, groups=5),
            r"'conv1' \(Conv2d\) can't be built: in_channels must be divisible by groups",
        ),
        (settings(0, out_channels=-4), r"'conv1' \(Conv2d\) can't be built: "),
        (settings(0, nothing=1), r"'conv1' \(Conv2d\) can't be built: .*nothing"),
        (
            settings(0, out_channels=10**9),
            r"'conv1' \(Conv2d\) asks for a weight of shape \(1000000000, 3, 3, 3\)",
        ),
        (settings(6, bias=False, out_features=4), r".*shape \(4, 160\), and the file has \(5, 160\)"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(change: Callable[[Nodes], None], message: str) -> None:
    original = network()
    spec = original.spec()
    change(spec["nodes"])
    with pytest.raises(CheckpointError, match=rf"not readable \({message}.*damaged.*convert the ANN again"):
        StageNetwork.from_spec(spec, original.state_dict())


@pytest.mark.parametrize(("output", "message"), [([], "it has no output"), (("head", 3), "not iterable")])
def test_an_output_that_is_none(output: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        StageNetwork.from_spec(network().spec() | {"output": output})


def test_a_parameter_that_the_file_lacks() -> None:
    original = network()
    state = original.state_dict()
    del state["operators.head.bias"]
    with pytest.raises(CheckpointError, match=r"'head' \(Linear\) asks for a bias of .*the file has none"):
        StageNetwork.from_spec(original.spec(), state)


def test_sums_and_concatenations_may_read_several_values() -> None:
    x = inputs(Dense, 3)
    original = normalise(toy(Dense), x)
    rebuilt = StageNetwork.from_spec(original.spec(), original.state_dict())
    rebuilt.load_state_dict(original.state_dict())
    assert torch.equal(rebuilt(x), original(x))
