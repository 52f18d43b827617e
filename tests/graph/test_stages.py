"""The partition into stages, its description, and the report."""

import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_lightning import conversion_report
from snn_lightning.errors import CheckpointError
from snn_lightning.graph import INPUT, GraphSettings, StageNetwork, normalise, prepare
from snn_lightning.graph.ir import ACTIVATION, tree_leaves, tree_map

from ..toys import SITES, TOYS, Bottleneck, Dense, MaxPooled, Residual, Vector, inputs, toy
from .nets import images, net


def prepared(cls: type[nn.Module], **pooling: bool) -> StageNetwork:
    x = inputs(cls, 3)
    return prepare(normalise(toy(cls), x), x, GraphSettings(**pooling))


def check_partition(network: StageNetwork) -> None:
    units = {stage.name for stage in network.stages if stage.kind != "readout"}
    assert units == {n for n, node in network.nodes.items() if node.op == ACTIVATION or n in network.gates}
    owners = [name for stage in network.stages for name in stage.operators]
    assert sorted([*owners, *units]) == sorted(network.nodes)
    known = {INPUT}
    exported = {name for stage in network.stages for name in stage.exports}
    for stage in network.stages:
        assert set(stage.inputs) <= known
        inside = set(stage.inputs)
        for name in stage.operators:
            assert set(network.nodes[name].inputs) <= inside
            inside.add(name)
        assert stage.current in inside
        assert set(stage.exports) <= set(stage.operators)
        known |= {*stage.exports, stage.name}
    used = {key for stage in network.stages for key in stage.inputs}
    assert exported == used - units - {INPUT}
    assert len({stage.name for stage in network.stages}) == len(network.stages)
    kinds = [stage.kind for stage in network.stages]
    assert kinds == sorted(kinds, key=lambda kind: kind == "readout")


@pytest.mark.parametrize("cls", TOYS)
@pytest.mark.parametrize("convert", [False, True])
def test_every_operator_is_in_one_stage(cls: type[nn.Module], convert: bool) -> None:
    check_partition(prepared(cls, convert_avg_pool=convert))


@pytest.mark.parametrize("cls", TOYS)
def test_running_the_stages_gives_the_network(cls: type[nn.Module]) -> None:
    network, x = prepared(cls), inputs(cls, 4, seed=1)
    with torch.no_grad():
        values = network.run_operators(network.nodes, {INPUT: x})
        assert torch.equal(values[network.output], network(x))


def test_an_operator_of_two_stages_belongs_to_the_first_and_is_exported() -> None:
    network = prepared(Dense)
    first, second, *_ = network.stages
    assert first.operators == ("stem", "norm1")
    assert first.exports == ("stem",)
    assert set(second.inputs) == {"stem", first.name}


def test_temporal_values_depend_on_a_site() -> None:
    network = prepared(Dense)
    assert set(network.nodes) - network.temporal == {"stem", "norm1"}


def test_a_site_that_is_an_output_needs_no_readout() -> None:
    network = normalise(net(lambda s, x: (F.relu(s.conv(x)), s.conv(x), x)), images())
    check_partition(network)
    assert [stage.kind for stage in network.stages] == ["neuron", "readout", "readout"]
    assert network.stages[-1].name == "readout"


def test_unused_operators_are_left_out() -> None:
    network = normalise(net(lambda s, x: (F.relu(s.second(s.conv(x))), F.relu(s.conv(x)))[1]), images())
    assert [node.op for node in network.nodes.values()] == ["Conv2d", ACTIVATION]


@pytest.mark.parametrize("cls", TOYS)
def test_a_description_rebuilds_the_network(cls: type[nn.Module]) -> None:
    network, x = prepared(cls, convert_avg_pool=True), inputs(cls, 3)
    file = io.BytesIO()
    torch.save(network.spec(), file)
    file.seek(0)
    rebuilt = StageNetwork.from_spec(torch.load(file, weights_only=True)).eval()
    rebuilt.load_state_dict(network.state_dict())
    assert rebuilt.stages == network.stages
    assert rebuilt.spec() == network.spec()
    with torch.no_grad():
        assert torch.equal(rebuilt(x), network(x))


@pytest.mark.parametrize("damage", ["nodes", "gates", "op", "settings"])
def test_a_damaged_description_is_an_error_with_the_remedy(damage: str) -> None:
    spec = prepared(Vector).spec()
    if damage in spec:
        del spec[damage]
    elif damage == "op":
        spec["nodes"][0]["op"] = "Nothing"
    else:
        spec["nodes"][0]["settings"] = {"nothing": 1}
    with pytest.raises(CheckpointError, match=r"not readable .*convert the ANN again"):
        StageNetwork.from_spec(spec)


def test_output_trees() -> None:
    tree = {"a": ("x", ["y", None]), "b": "x"}
    assert tree_leaves(tree) == ["x", "y", "x"]
    assert tree_map(str.upper, tree) == {"a": ("X", ["Y", None]), "b": "X"}


@pytest.mark.parametrize("cls", TOYS)
def test_the_report_counts_sites_and_names_modules(cls: type[nn.Module]) -> None:
    report = conversion_report(toy(cls), inputs(cls, 2))
    assert report.convertible
    assert report.sites == SITES[cls]
    assert str(report).startswith(f"Convertible: {SITES[cls]} sites become neurons, nothing left analog\n")
    assert len(str(report).splitlines()) == 4 + len(report.stages)


def test_the_report_as_text() -> None:
    lines = str(conversion_report(toy(MaxPooled), inputs(MaxPooled, 2))).splitlines()
    assert lines[1:] == [
        "stage         kind     module  neurons  operators",
        "relu          neuron   -           512  Conv2d",
        "pool          gate     pool             -",
        "relu_1        neuron   -           160  Conv2d",
        "readout_head  readout  -                Flatten, Linear",
        "Neurons: 672 for one input of 3 x 8 x 8, the size of the sample; other sizes have more or fewer",
        "Synapses: 47.1% of the multiply-accumulates receive spikes",
    ]
    lines = str(conversion_report(toy(Residual), inputs(Residual, 2))).splitlines()
    assert [line.split()[2] for line in lines[2:5]] == ["relu"] * 3
    lines = str(conversion_report(toy(Bottleneck), inputs(Bottleneck, 2))).splitlines()
    assert lines[2].split() == ["block_2", "neuron", "block.2", "768", "6", "Conv2d,", "Conv2d"]
    lines = str(conversion_report(toy(Vector), inputs(Vector, 2))).splitlines()
    assert lines[-2] == "Neurons: 28 for one input of 10, the size of the sample"


def test_the_report_of_what_does_not_convert() -> None:
    report = conversion_report(
        nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.ReLU(), nn.Softmax(1)), torch.ones(2, 3)
    )
    assert not report.convertible
    assert [obstacle.operator for obstacle in report.obstacles] == ["Tanh", "Softmax"]
    first, *rest = str(report).splitlines()
    assert first == "Not convertible: 2 obstacles"
    assert rest[0].startswith("  1. Tanh in module '1'")
    report = conversion_report(nn.Linear(3, 3), torch.ones(2, 3))
    assert not report.convertible
    assert str(report).startswith("Not convertible: The network has no activation")
