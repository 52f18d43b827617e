"""Turn a trained ANN into a calibrated spiking neural network."""

from typing import TYPE_CHECKING, Any

from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.calibration import (
    ACP,
    LCP,
    QCFS,
    RMP,
    RNL,
    TSC,
    Augmentation,
    Balance,
    Baseline,
    Best,
    Bias,
    BudgetResult,
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
    calibrate_to,
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
    from snn_lightning.callbacks import CalibrationCallback, log_report
    from snn_lightning.report import write_report
    from snn_lightning.synthesis import ActivationStatistics, Synthesis, capture_statistics
    from snn_lightning.training.synthesis import synthesise

__all__ = [
    "ACP",
    "IF",
    "LCP",
    "MMSE",
    "QCFS",
    "RMP",
    "RNL",
    "TSC",
    "ActivationStatistics",
    "Augmentation",
    "Balance",
    "Baseline",
    "Best",
    "Bias",
    "BudgetResult",
    "Burst",
    "CalibrationCallback",
    "Cap",
    "Distillation",
    "EnergyModel",
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
    "Synthesis",
    "Weights",
    "__version__",
    "calibrate",
    "calibrate_to",
    "capture_statistics",
    "conversion_report",
    "convert",
    "load_converted",
    "load_from_checkpoint",
    "log_report",
    "rescale_to_unit_spikes",
    "save_converted",
    "sensitivity",
    "synthesise",
    "use_kernel",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Lightning is imported only by those who use it.
    if name in ("CalibrationCallback", "log_report"):
        from snn_lightning import callbacks

        return getattr(callbacks, name)
    # And matplotlib by those who draw.
    if name == "write_report":
        from snn_lightning.report import write_report

        return write_report
    if name == "sensitivity":
        from snn_lightning.analysis.sensitivity import sensitivity

        return sensitivity
    if name in ("ActivationStatistics", "Synthesis", "capture_statistics"):
        from snn_lightning import synthesis

        return getattr(synthesis, name)
    if name == "synthesise":
        from snn_lightning.training.synthesis import synthesise

        return synthesise
    raise AttributeError(f"module 'snn_lightning' has no attribute '{name}'")
