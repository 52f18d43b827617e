"""The conversion methods the papers compare themselves with, as pipelines on the same engine.

What they have in common here is the neuron, which resets by subtraction and whose spikes have the value v_th,
the image as a constant current into the first stage, and a readout that integrates. Where a paper has it
otherwise (Diehl et al. and Sengupta et al. reset to zero and draw the image as Poisson spikes), that is the
difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from snn_lightning.calibration.pipelines import Baseline
from snn_lightning.calibration.steps.threshold_balancing import Balance
from snn_lightning.spiking.neurons.config import Neuron, Switch
from snn_lightning.thresholds import Cap, Max, Percentile, Threshold


def _layer_maximum() -> Threshold:
    return Max("layer")


@dataclass(frozen=True)
class MaxAct(Baseline):
    """The largest activation of the layer as threshold: `v_th = max x`; flooring (PC eq. 10).

    Diehl et al., "Fast-classifying, high-accuracy spiking deep networks through weight and threshold
    balancing", IJCNN 2015 (data-based normalisation).

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> loader = [torch.tensor([[0.5, 2.0]])]
        >>> snn = calibrate(torch.nn.ReLU(), loader, MaxAct(timesteps=4), progress=False)
        >>> snn.neurons["relu"].v_th
        tensor(2.)
    """

    threshold: Threshold = field(default_factory=_layer_maximum)
    rounding: str = "floor"


@dataclass(frozen=True)
class RobustNorm(Baseline):
    """A percentile of the layer's activations as threshold: `P(x <= v_th) = 99.9 %`; flooring.

    Rueckauer et al., "Conversion of continuous-valued deep networks to efficient event-driven networks for
    image classification", Frontiers in Neuroscience 2017, arXiv:1612.04052.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> loader = [torch.cat([torch.ones(2000, 1), torch.tensor([[100.0]])])]
        >>> snn = calibrate(torch.nn.ReLU(), loader, RobustNorm(timesteps=4), progress=False)
        >>> bool(snn.neurons["relu"].v_th < 2)  # one outlier is left out
        True
    """

    threshold: Threshold = field(default_factory=lambda: Percentile("layer", percentile=99.9))
    rounding: str = "floor"


@dataclass(frozen=True)
class SpikeNorm(Baseline):
    """The largest current of the layer as threshold, simulated layer by layer: `v_th = max z(t)`; flooring.

    Sengupta et al., "Going deeper in spiking neural networks: VGG and residual architectures", Frontiers in
    Neuroscience 2019, arXiv:1802.02627. See `Balance` for how it reads with spikes of value v_th.

    Args:
        balance: settings of the step; None leaves it out.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> loader = [torch.tensor([[0.5, 2.0]])]
        >>> snn = calibrate(torch.nn.ReLU(), loader, SpikeNorm(timesteps=4), progress=False)
        >>> snn.records[0]["steps"]["balance"]["largest"]
        2.0
    """

    threshold: Threshold = field(default_factory=_layer_maximum)
    rounding: str = "floor"
    calibrate_readout: bool = False
    balance: Balance | None = field(default_factory=Balance)


@dataclass(frozen=True)
class RMP(SpikeNorm):
    """Soft reset, and Spike-Norm's thresholds made smaller: `v_th = scale * max z(t)`; flooring.

    Han et al., "RMP-SNN: residual membrane potential neuron for enabling deeper high-accuracy and low-latency
    spiking neural network", CVPR 2020, arXiv:2003.01811. A neuron that keeps its residue stays linear up to a
    rate of one spike a step, so that its threshold may lie below the largest current; the factor 0.8 is a
    choice of this package, to be varied with `Balance(scale)`.

    Args:
        balance: settings of the step; None leaves it out.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> pipeline = RMP(timesteps=4, balance=Balance(scale=0.5))
        >>> snn = calibrate(torch.nn.ReLU(), [torch.tensor([[0.5, 2.0]])], pipeline, progress=False)
        >>> snn.neurons["relu"].v_th
        tensor(1.)
    """

    balance: Balance | None = field(default_factory=lambda: Balance(scale=0.8))


@dataclass(frozen=True)
class TSC(Baseline):
    """Temporal-switch coding: a rate n/T is two spikes n time steps apart; `v_th = max x`; flooring.

    Han & Roy, "Deep spiking neural network: energy efficiency through time based coding", ECCV 2020. See
    `SwitchNeuron` for the equations. Every layer waits for the whole input, so that T is the length of a
    layer's window; the largest activation of the layer as threshold is a choice of this package.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> loader = [torch.tensor([[0.5, 1.0]])]
        >>> snn = calibrate(torch.nn.ReLU(), loader, TSC(timesteps=4), progress=False)
        >>> snn(torch.tensor([[0.25, 0.75]]))
        tensor([[0.2500, 0.7500]])
    """

    threshold: Threshold = field(default_factory=_layer_maximum)
    neuron: Neuron = field(default_factory=Switch)
    rounding: str = "floor"


@dataclass(frozen=True)
class RNL(Baseline):
    """The bound of a rate norm layer `clip(x, 0, θ)` as threshold: `v_th = θ`; flooring.

    Ding et al., "Optimal ANN-SNN conversion for fast and accurate inference in deep spiking neural networks",
    IJCAI 2021, arXiv:2105.11654. Needs an ANN with `models.RateNorm`.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> from snn_lightning.models import RateNorm
        >>> ann = torch.nn.Sequential(RateNorm(fraction=0.5))
        >>> snn = calibrate(ann, [torch.rand(8, 2)], RNL(timesteps=4), progress=False)
        >>> [neuron.v_th for neuron in snn.neurons.values()]
        [tensor(0.5000)]
    """

    threshold: Threshold = field(default_factory=Cap)
    rounding: str = "floor"


@dataclass(frozen=True)
class Opt(Baseline):
    """The bound of a thresholded ReLU as threshold, half a step as bias: `v_th = y_th`, `b += v_th / 2T`.

    Deng & Gu, "Optimal conversion of conventional artificial neural networks to spiking neural networks",
    ICLR 2021, arXiv:2103.00476. Needs an ANN with `models.Clipped`.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> from snn_lightning.models import Clipped
        >>> ann = torch.nn.Sequential(Clipped(cap=2.0))
        >>> snn = calibrate(ann, [torch.rand(8, 2)], Opt(timesteps=4), progress=False)
        >>> [(neuron.v_th, neuron.bias) for neuron in snn.neurons.values()]
        [(tensor(2.), tensor(0.2500))]
    """

    threshold: Threshold = field(default_factory=Cap)
    rounding: str = "bias"


@dataclass(frozen=True)
class QCFS(Baseline):
    """The trained bound λ as threshold and half of it as initial potential: `v_th = λ`, `v_init = λ / 2`.

    Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks",
    ICLR 2022, arXiv:2303.04347. Needs an ANN with `models.QuantizedClip`, whose quantiser is left behind: the
    ANN that is converted clips at λ, and at T = L a neuron's expected rate is the quantised activation.

    Example:
        >>> import torch
        >>> from snn_lightning import calibrate
        >>> from snn_lightning.models import QuantizedClip
        >>> ann = torch.nn.Sequential(QuantizedClip(levels=4, cap=2.0))
        >>> snn = calibrate(ann, [torch.rand(8, 2)], QCFS(timesteps=4), progress=False)
        >>> [(neuron.v_th, neuron.v_init) for neuron in snn.neurons.values()]
        [(tensor(2.), tensor(1.))]
    """

    threshold: Threshold = field(default_factory=Cap)
    rounding: str = "potential"
