"""Turn a trained ANN into a calibrated spiking neural network."""

from typing import TYPE_CHECKING, Any

from snn_lightning.calibration import (
    ACP,
    LCP,
    QCFS,
    RMP,
    RNL,
    TSC,
    Balance,
    Baseline,
    Best,
    Bias,
    Distillation,
    LeastSquares,
    MaxAct,
    NeuronSearch,
    Opt,
    Pipeline,
    Potential,
    RobustNorm,
    SpikeNorm,
    Weights,
    calibrate,
    convert,
)
from snn_lightning.graph.report import conversion_report
from snn_lightning.spiking import (
    IF,
    Burst,
    IFNeuron,
    Parallel,
    Signed,
    SpikingCheckpoint,
    SpikingModel,
    Switch,
    load_converted,
    load_from_checkpoint,
    save_converted,
)
from snn_lightning.spiking.kernels import use_kernel
from snn_lightning.spiking.unit_spikes import rescale_to_unit_spikes
from snn_lightning.thresholds import MMSE, Cap, Max, Percentile
from snn_lightning.version import __version__

if TYPE_CHECKING:
    from snn_lightning.analysis.sensitivity import sensitivity
    from snn_lightning.callbacks import CalibrationCallback
    from snn_lightning.report import write_report

__all__ = [
    "ACP",
    "IF",
    "LCP",
    "MMSE",
    "QCFS",
    "RMP",
    "RNL",
    "TSC",
    "Balance",
    "Baseline",
    "Best",
    "Bias",
    "Burst",
    "CalibrationCallback",
    "Cap",
    "Distillation",
    "IFNeuron",
    "LeastSquares",
    "Max",
    "MaxAct",
    "NeuronSearch",
    "Opt",
    "Parallel",
    "Percentile",
    "Pipeline",
    "Potential",
    "RobustNorm",
    "Signed",
    "SpikeNorm",
    "SpikingCheckpoint",
    "SpikingModel",
    "Switch",
    "Weights",
    "__version__",
    "calibrate",
    "conversion_report",
    "convert",
    "load_converted",
    "load_from_checkpoint",
    "rescale_to_unit_spikes",
    "save_converted",
    "sensitivity",
    "use_kernel",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Lightning is imported only by those who use the callback.
    if name == "CalibrationCallback":
        from snn_lightning.callbacks import CalibrationCallback

        return CalibrationCallback
    # And matplotlib by those who draw.
    if name == "write_report":
        from snn_lightning.report import write_report

        return write_report
    if name == "sensitivity":
        from snn_lightning.analysis.sensitivity import sensitivity

        return sensitivity
    raise AttributeError(f"module 'snn_lightning' has no attribute '{name}'")
