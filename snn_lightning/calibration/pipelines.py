"""What is calibrated, as settings: the steps and the pipelines made of them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from snn_lightning.calibration.images import count_images
from snn_lightning.calibration.walk.cache import PLACES
from snn_lightning.errors import SettingsError
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.neurons.config import check_surrogate
from snn_lightning.thresholds import MMSE, Threshold


def _whole(owner: str, name: str, value: object, least: int = 1, optional: bool = True) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise SettingsError(f"{owner}.{name} must be a whole number of at least {least}, got {value!r}")


def _positive(owner: str, name: str, value: Any, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise SettingsError(f"{owner}.{name} must be a positive number, got {value!r}")


class Step:
    """Base of the settings of every step; `register_step` names the function that runs it in each stage."""


class FinalStep:
    """Base of the settings of every step on the whole network, after the walk; registered in the same way."""


@dataclass(frozen=True)
class Bias(Step):
    """Bias calibration (PC eq. 19-20): `b_c += mean over images and space of (x - rate)`.

    A bias moves the spikes, and the mean error with them, by more or less than itself; repeats come closer.

    Args:
        images: how many calibration images it uses; None for all (the paper: 128).
        repeats: how often it simulates and corrects (the paper: once).
    """

    images: int | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        _whole("bias", "images", self.images)
        _whole("bias", "repeats", self.repeats, optional=False)


@dataclass(frozen=True)
class Potential(Step):
    """Potential calibration (PC eq. 21-22): `v_init += T * mean over images of (x - rate)`.

    Args:
        images: how many calibration images it uses; None for all (the paper: 128).
        granularity: "neuron", or "channel" where the input size varies (PC B.4).
    """

    images: int | None = None
    granularity: str = "neuron"

    def __post_init__(self) -> None:
        _whole("potential", "images", self.images)
        if self.granularity not in ("neuron", "channel"):
            raise SettingsError(
                f"potential.granularity must be 'neuron' or 'channel', got {self.granularity!r}"
            )


@dataclass(frozen=True)
class Weights(Step):
    """Weight calibration (PC eq. 23-24): SGD on the squared error between activation and expected rate.

    Args:
        iterations: SGD steps a stage.
        learning_rate: of the loss that is summed over channels and averaged over images and space; None sets
            it from the stage itself, as `step_size` over the largest curvature of that loss.
        step_size: see `learning_rate`.
        momentum: of SGD.
        batch_size: images a step, over all processes.
        images: how many calibration images it uses; None for all.
    """

    iterations: int = 100
    learning_rate: float | None = None
    step_size: float = 1.0
    momentum: float = 0.9
    batch_size: int = 32
    images: int | None = None

    def __post_init__(self) -> None:
        _whole("weights", "iterations", self.iterations, optional=False)
        _whole("weights", "batch_size", self.batch_size, optional=False)
        _whole("weights", "images", self.images)
        _positive("weights", "learning_rate", self.learning_rate, optional=True)
        _positive("weights", "step_size", self.step_size)
        if not isinstance(self.momentum, int | float) or not 0 <= self.momentum < 1:
            raise SettingsError(f"weights.momentum must be in [0, 1), got {self.momentum!r}")


def _optional_step(field_name: str, value: object, example: str) -> None:
    if value is not None and not isinstance(value, Step):
        raise SettingsError(f"{field_name} must be a step such as {example}, or None, got {value!r}")


@dataclass(frozen=True)
class LeastSquares(Step):
    """Weight calibration in closed form: `argmin_W ||y - (W rate + b)||^2 + ridge ||W - W_ann||^2`.

    y is the ANN's value that the synapses, all of a sum jointly, are to give, `rate` the SNN's mean input;
    then the same with both sides clipped to the rates that the neuron can have. It takes the place of
    `Weights`, whose loss (PC eq. 23) it minimises but for the rounding.

    Args:
        ridge: pull towards the weights of the ANN, in units of the mean of the Gram matrix's diagonal.
        iterations: solutions in all; those after the first are of the clipped form. Each runs over the
            images once, and only the first makes the Gram matrix.
        images: how many calibration images it uses; None for all.
    """

    ridge: float = 0.1
    iterations: int = 4
    images: int | None = None

    def __post_init__(self) -> None:
        _positive("weights", "ridge", self.ridge)
        _whole("weights", "iterations", self.iterations, optional=False)
        _whole("weights", "images", self.images)


@dataclass(frozen=True)
class Distillation(FinalStep):
    """The whole SNN learns the ANN's outputs on the calibration images, without labels, through its spikes.

    `min ||ANN - SNN||^2 / ||ANN||^2` over all weights, biases, thresholds and potentials, by Adam with
    surrogate gradients through all time steps.

    Args:
        iterations: steps of Adam; None for 1200, but 4800 / T at T < 4, where more is to be learnt, and
            19200 / T at T > 16, at least 100, so that it costs no more.
        batch_size: images a step, over all processes.
        step_size: how far a step moves a weight, in units of its tensor's mean size; the neurons' parameters
            move a fifth of it, in thresholds.
        images: how many calibration images it uses; None for all.
    """

    iterations: int | None = None
    batch_size: int = 32
    step_size: float = 0.01
    images: int | None = None

    def __post_init__(self) -> None:
        _whole("distillation", "iterations", self.iterations)
        _whole("distillation", "batch_size", self.batch_size, optional=False)
        _whole("distillation", "images", self.images)
        _positive("distillation", "step_size", self.step_size)

    def iterations_at(self, timesteps: int) -> int:
        """Return the steps of Adam at T time steps."""
        return self.iterations or max(100, round(max(4800 / timesteps, min(1200, 19200 / timesteps))))


@dataclass(frozen=True)
class Pipeline(Conversion):
    """What every pipeline has beside how the network is converted; by itself it only sets thresholds.

    Args:
        threshold: how each site's firing threshold is found; see `Conversion` for its other fields.
        calibrate_readout: whether the steps also correct the readout.
        cache_budget_gb: memory for the sweep's cache in GB; what is more goes to disk. None for no limit.
        cache_place: "device", "host" (the host's memory) or "disk".
        seed: of the private generators; the same seed gives the same SNN.
    """

    threshold: Threshold = field(default_factory=MMSE)
    calibrate_readout: bool = True
    cache_budget_gb: float | None = None
    cache_place: str = "device"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None:
            raise SettingsError("threshold must be a Threshold such as MMSE(), got None")
        _positive("pipeline", "cache_budget_gb", self.cache_budget_gb, optional=True)
        if self.cache_place not in PLACES:
            raise SettingsError(f"cache_place must be one of {', '.join(PLACES)}, got {self.cache_place!r}")
        _whole("pipeline", "seed", self.seed, least=0, optional=False)
        for f in fields(self):
            default = f.default if f.default_factory is MISSING else f.default_factory()
            value = getattr(self, f.name)
            kind = next((k for k in (Step, FinalStep) if isinstance(default, k)), None)
            if kind is not None and value is not None and not isinstance(value, kind):
                raise SettingsError(
                    f"{f.name} must be a step such as {type(default).__name__}(), or None to leave it out, "
                    f"got {value!r}"
                )
        if self.final_steps:
            check_surrogate(self.neuron, "distillation")

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps after the threshold, in the order they run in each stage: that of the fields."""
        return tuple(getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Step))

    @property
    def final_steps(self) -> tuple[FinalStep, ...]:
        """The steps on the whole network after the walk, in the order of the fields."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(value for value in values if isinstance(value, FinalStep))

    def check_images(self, total: int) -> None:
        """Fail now, not at the stage that meets it, if a step can't work with `total` calibration images.

        Raises:
            CalibrationError: a step wants more than there are, or has fewer than a mini-batch.
        """
        names = {id(getattr(self, f.name)): f.name for f in fields(self)}
        for step in (*self.steps, *self.final_steps):
            name = names.get(id(step), type(step).__name__)
            count_images(name, getattr(step, "images", None), total, getattr(step, "batch_size", 1))


@dataclass(frozen=True)
class Baseline(Pipeline):
    """Thresholds and rounding, nothing calibrated."""


@dataclass(frozen=True)
class LCP(Pipeline):
    """The light calibration pipeline: thresholds and biases.

    Args:
        search: `NeuronSearch()` chooses thresholds and initial potentials by simulation first; None does not.
        bias: settings of the step; None leaves it out.
    """

    search: Step | None = None
    bias: Bias | None = field(default_factory=Bias)

    def __post_init__(self) -> None:
        super().__post_init__()
        _optional_step("search", self.search, "NeuronSearch()")


@dataclass(frozen=True)
class ACP(Pipeline):
    """The advanced calibration pipeline: thresholds, weights, and what is left into initial potentials.

    Args:
        weights: settings of the step, `Weights` (SGD) or `LeastSquares`; None leaves it out.
        search: `NeuronSearch()` chooses thresholds and initial potentials by simulation then; None does not.
        potential: settings of the step; None leaves it out.
    """

    weights: Weights | LeastSquares | None = field(default_factory=Weights)
    search: Step | None = None
    potential: Potential | None = field(default_factory=Potential)

    def __post_init__(self) -> None:
        super().__post_init__()
        _optional_step("search", self.search, "NeuronSearch()")


@dataclass(frozen=True)
class Best(ACP):
    """The pipeline for the fewest time steps: weights in closed form, potentials, then distillation.

    Args:
        weights: see `ACP`.
        search: see `ACP`.
        potential: see `ACP`.
        distillation: settings of the last step; None leaves it out.
    """

    weights: Weights | LeastSquares | None = field(default_factory=LeastSquares)
    distillation: Distillation | None = field(default_factory=Distillation)
