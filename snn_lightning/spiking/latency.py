"""How many windows of time an inference takes where neurons wait for the whole of their input."""

from __future__ import annotations

from snn_lightning.graph.network import StageNetwork


def latency_steps(network: StageNetwork, timesteps: int, waits: bool) -> int:
    """Return the time steps from the first of an inference to its output.

    Args:
        network: of which the neurons are the sites.
        timesteps: T.
        waits: whether neurons wait for the whole of their input. They take T each on the longest way through
            a window of the schedule, and what reads the last ones T more; else a window takes T.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from snn_lightning.graph import normalise
        >>> network = normalise(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.rand(8, 2))
        >>> latency_steps(network, 4, waits=False), latency_steps(network, 4, waits=True)
        (4, 8)
    """
    return timesteps * (sum(depths(network)) if waits else len(network.schedule.regions))


def depths(network: StageNetwork) -> list[int]:
    """Return for each window of the schedule how many an inference takes there, with neurons that wait.

    One for each neuron on the longest way through it, which adds up its input then, and one for what reads
    the last of them: the readout, or an analog operator.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from snn_lightning.graph import normalise
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> depths(normalise(ann, torch.rand(8, 2)))
        [3]
    """
    waited: dict[str, int] = {}
    longest = [0] * len(network.schedule.regions)
    for stage in network.stages:
        for name in (*stage.operators, stage.name):
            inputs = network.nodes[name].inputs if name in network.nodes else (stage.current,)
            temporal = network.schedule.changing[stage.window]
            before = max((waited[key] for key in inputs if key in temporal and key in waited), default=0)
            waited[name] = before + (stage.kind == "neuron" and name == stage.name)
            longest[stage.window] = max(longest[stage.window], waited[name])
    return [count + 1 for count in longest]
