"""What `dry_run=true` prints of a calibration: its operations and bytes, and its seconds on this machine."""

from __future__ import annotations

from torch import Tensor

from snn_lightning.analysis.cost.operations import estimate_cost
from snn_lightning.analysis.cost.timing import estimate_seconds, measure_prices
from snn_lightning.analysis.cost.workload import Work
from snn_lightning.graph.network import StageNetwork
from snn_lightning.spiking.neurons.config import Neuron


def cost_report(
    network: StageNetwork, sample: Tensor, work: Work, tested: int, neuron: Neuron, simulations: float = 1.0
) -> str:
    """Say what calibrating and testing will cost on this machine.

    Args:
        network: the normalised and prepared ANN.
        sample: inputs `[N, ...]` on its device.
        work: what is to be done.
        tested: test images of this process.
        neuron: the kind of neurons.
        simulations: of T time steps each that a test makes of an image.

    Example:
        >>> import torch
        >>> from snn_lightning import IF, LCP
        >>> from snn_lightning.graph import normalise
        >>> sample, work = torch.rand(1, 2), LCP(timesteps=4).work(images=100)
        >>> report = cost_report(normalise(torch.nn.ReLU(), sample), sample, work, tested=10, neuron=IF())
        >>> "Estimated seconds on this machine" in report
        True
    """
    cost = estimate_cost(network, sample.shape[1:], work)
    seconds = estimate_seconds(cost, measure_prices(network, sample, work, neuron=neuron))
    snn = f"{tested} images, uncalibrated and again calibrated"
    weights = f"{work.solutions} solutions" if work.solutions else f"{work.iterations} SGD steps"
    phases = (
        ("Calibration, simulate", f"{work.share(work.images)} images", sum(seconds.simulate)),
        ("Calibration, weights", f"{weights} a stage", sum(seconds.weights)),
        ("Distillation", f"{work.share(work.distilled)} images", seconds.distillation),
        ("Testing, ANN", f"{tested} images", tested * seconds.forward),
        ("Testing, SNN", snn, 2 * tested * simulations * seconds.simulation),
    )
    lines = [f"  {name:<21}  {value:>8.3g} s  ({what})" for name, what, value in phases]
    place = sample.device.type
    title = f"Estimated seconds on this machine ({place}), without pretraining and loading of data:"
    return "\n".join([str(cost), title, *lines])
