"""The pipelines: which steps are run in each stage, and after all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Self, get_args, get_type_hints

from torch import Tensor

from snn_lightning.analysis.cost.workload import Work
from snn_lightning.calibration.augmentation import Augmentation, decide
from snn_lightning.calibration.images import SMALL_SET, count_images
from snn_lightning.calibration.steps.base import STEPS, AnyStep, FinalStep, Step
from snn_lightning.calibration.steps.bias import Bias
from snn_lightning.calibration.steps.distillation import Distillation
from snn_lightning.calibration.steps.least_squares import LeastSquares
from snn_lightning.calibration.steps.potential import Potential
from snn_lightning.calibration.steps.threshold_search import NeuronSearch
from snn_lightning.calibration.steps.weights import Weights
from snn_lightning.calibration.walk.cache import PLACES
from snn_lightning.errors import SettingsError
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import groups_of, traits_of
from snn_lightning.settings import check_choice, check_interval, check_positive, check_whole
from snn_lightning.spiking.conversion import Conversion
from snn_lightning.spiking.neurons.config import check_surrogate
from snn_lightning.thresholds import MMSE, Threshold

HELD_OUT = 0.25
"""Share of a small set that is held out by default."""

CLOSED_FORM_IMAGES = 1024
"""Images of which `Best` solves for weights at the most: its distillation learns from all."""


@dataclass(frozen=True)
class Pipeline(Conversion):
    """What every pipeline has beside how the network is converted; by itself it only sets thresholds.

    Args:
        threshold: how each site's firing threshold is found; see `Conversion` for its other fields.
        calibrate_readout: whether the steps also correct the readout.
        held_out: share of the images that no weight is fitted to; by them weight calibration and distillation
            choose how far they go. None for a quarter of fewer than 256 images, and for no image of more.
        cache_budget_gb: memory for the sweep's cache in GB; what is more goes to disk. None for no limit.
        cache_place: "device", "host" (the host's memory) or "disk".
        seed: of the private generators; the same seed gives the same SNN.
        augment: an `Augmentation` of the calibration images, "auto" for the default one, or None. "auto" is
            for images of one or three channels: the walk gets copies of fewer than 64, a distillation of
            fewer than 1024.

    Example:
        >>> @dataclass(frozen=True)
        ... class BiasTwice(Pipeline):
        ...     first: Bias | None = field(default_factory=Bias)
        ...     second: Bias | None = field(default_factory=Bias)
        >>> len(BiasTwice(timesteps=4).steps)
        2
    """

    threshold: Threshold = field(default_factory=MMSE)
    calibrate_readout: bool = True
    held_out: float | None = None
    cache_budget_gb: float | None = None
    cache_place: str = "device"
    seed: int = 0
    augment: Augmentation | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is None:
            raise SettingsError("threshold must be a Threshold such as MMSE(), got None")
        if self.held_out is not None:
            check_interval("pipeline.held_out", self.held_out, "[0, 1)")
        check_positive("pipeline.cache_budget_gb", self.cache_budget_gb, optional=True)
        check_choice("cache_place", self.cache_place, PLACES)
        check_whole("pipeline.seed", self.seed, least=0)
        if self.augment not in (None, "auto") and not isinstance(self.augment, Augmentation):
            raise SettingsError(
                f"pipeline.augment must be an Augmentation, 'auto' or None (null), got {self.augment!r}"
            )
        self._check_steps()

    def _check_steps(self) -> None:
        for name, kinds in _step_fields(type(self)).items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                examples = " or ".join(f"{kind.__name__}()" for kind in kinds)
                raise SettingsError(
                    f"{name} must be a step such as {examples}, or None to leave it out, got {value!r}"
                )
        for name, step in self._all_steps.items():
            STEPS.name_of(type(step))
            if step.needs_surrogate:
                check_surrogate(self.neuron, name)

    @property
    def _all_steps(self) -> dict[str, AnyStep]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, AnyStep)}

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps after the threshold, in the order they run in each stage: that of the fields."""
        return tuple(step for step in self._all_steps.values() if isinstance(step, Step))

    @property
    def final_steps(self) -> tuple[FinalStep, ...]:
        """The steps on the whole network after the walk, in the order of the fields."""
        return tuple(step for step in self._all_steps.values() if isinstance(step, FinalStep))

    def decided(self, batches: Sequence[Tensor], given: int) -> Self:
        """Return the pipeline with `augment` as it is for a calibration set: an `Augmentation` or None.

        Args:
            batches: inputs `[N, ...]` of the set.
            given: images of the set.

        Raises:
            CalibrationError: an augmentation is asked for and they are no images.
        """
        augment = decide(self.augment, given, batches)
        return self if augment is self.augment else replace(self, augment=augment)

    def decided_for(self, network: StageNetwork) -> Self:
        """Return the pipeline with what depends on the network decided."""
        return self

    def augmented(self, given: int) -> int:
        """Return how many images the walk gets of a set of `given` images."""
        augment = decide(self.augment, given)
        return given if augment is None else augment.count(given)

    def check_images(self, given: int) -> None:
        """Fail now, not at the stage that meets it, if a step can't work with `given` calibration images.

        Raises:
            CalibrationError: a step wants more than there are with augmentation, or has fewer than a
                mini-batch.
        """
        total = self.augmented(given)
        for name, step in self._all_steps.items():
            count_images(name, getattr(step, "images", None), total, getattr(step, "batch_size", 1))

    def count_held_out(self, total: int) -> int:
        """Return how many of the images are held out: none where no step asks for them.

        They are no more than leave a mini-batch to be fitted to.

        Args:
            total: of the calibration set.
        """
        if not any(step.holds_out for step in self._all_steps.values()):
            return 0
        batch = max((getattr(step, "batch_size", 1) for step in self._all_steps.values()), default=1)
        share = (HELD_OUT if total < SMALL_SET else 0.0) if self.held_out is None else self.held_out
        # Of an augmented set the copies count, of which the held-out images have their share.
        spare = total - -(-batch * total // self.augmented(total))
        return max(0, min(round(share * total), spare))

    def work(self, images: int, processes: int = 1) -> Work:
        """Return what it does, as the plain numbers of the cost model.

        Args:
            images: of the calibration set, over all processes, before augmentation.
            processes: number of processes.
        """
        work = Work(
            self.augmented(images),
            self.timesteps,
            readout=self.calibrate_readout,
            budget=None if self.cache_budget_gb is None else self.cache_budget_gb * 1e9,
            processes=processes,
            spike_bits=self.unit().spike_bits,
            simulated=None if self.simulated_steps == self.timesteps else self.simulated_steps,
            originals=images if decide(self.augment, images) else 0,
        )
        for step in self._all_steps.values():
            work = step.add_work(work)
        return work


def _step_fields(pipeline: type) -> dict[str, tuple[type[AnyStep], ...]]:
    """Return which steps each field takes that takes any, as its annotation says.

    Raises:
        SettingsError: an annotation names what its module doesn't have.
    """
    try:
        hints = get_type_hints(pipeline)
    except NameError as error:
        raise SettingsError(
            f"the fields of the pipeline {pipeline.__name__} can't be read ({error}): define what their "
            "annotations name at the top of the module"
        ) from error
    kinds = {f.name: get_args(hints[f.name]) or (hints[f.name],) for f in fields(pipeline)}
    steps = {
        name: tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, AnyStep))
        for name, found in kinds.items()
    }
    return {name: found for name, found in steps.items() if found}


@dataclass(frozen=True)
class Baseline(Pipeline):
    """Thresholds and rounding, nothing calibrated.

    Example:
        >>> Baseline(timesteps=4, rounding="floor").steps
        ()
    """


@dataclass(frozen=True)
class LCP(Pipeline):
    """The light calibration pipeline: thresholds and biases.

    Args:
        search: `NeuronSearch()` chooses thresholds and initial potentials by simulation first; None does not.
        bias: settings of the step; None leaves it out.

    Example:
        >>> [type(step).__name__ for step in LCP(timesteps=4, search=NeuronSearch()).steps]
        ['NeuronSearch', 'Bias']
    """

    search: NeuronSearch | None = None
    bias: Bias | None = field(default_factory=Bias)


@dataclass(frozen=True)
class ACP(Pipeline):
    """The advanced calibration pipeline: thresholds, weights, and what is left into initial potentials.

    Few images are augmented by default (`augment`), and some held out (`held_out`); see `Pipeline`.

    Args:
        weights: settings of the step, `Weights` (SGD) or `LeastSquares`; None leaves it out.
        search: `NeuronSearch()` chooses thresholds and initial potentials by simulation then; None does not.
        potential: settings of the step; None leaves it out.

    Example:
        >>> [type(step).__name__ for step in ACP(timesteps=16, weights=LeastSquares()).steps]
        ['LeastSquares', 'Potential']
    """

    augment: Augmentation | str | None = "auto"
    weights: Weights | LeastSquares | None = field(default_factory=Weights)
    search: NeuronSearch | None = None
    potential: Potential | None = field(default_factory=Potential)


@dataclass(frozen=True)
class Best(ACP):
    """The pipeline for the fewest time steps: weights in closed form, potentials, then distillation.

    Args:
        weights: see `ACP`; where a distillation follows, `LeastSquares` takes 1024 of more images by itself.
        search: see `ACP`.
        potential: see `ACP`.
        distillation: settings of the last step; None leaves it out.

    Example:
        >>> pipeline = Best(timesteps=2, distillation=Distillation(iterations=500))
        >>> [type(step).__name__ for step in (*pipeline.steps, *pipeline.final_steps)]
        ['LeastSquares', 'Potential', 'Distillation']
    """

    weights: Weights | LeastSquares | None = field(default_factory=LeastSquares)
    distillation: Distillation | None = field(default_factory=Distillation)

    def decided(self, batches: Sequence[Tensor], given: int) -> Self:
        """See `Pipeline.decided`; also says of how many images the weights are, where it is not of all."""
        pipeline, weights = super().decided(batches, given), self.weights
        if not isinstance(weights, LeastSquares) or weights.images or self.distillation is None:
            return pipeline
        # Held-out images, which choose the ridge, are the last ones.
        if self.augmented(given) <= CLOSED_FORM_IMAGES or self.count_held_out(given):
            return pipeline
        return replace(pipeline, weights=replace(weights, images=CLOSED_FORM_IMAGES))

    def decided_for(self, network: StageNetwork) -> Self:
        """See `Pipeline.decided_for`: says how long a network with depthwise convolutions is distilled."""
        synapses = [operator for operator in network.operators.values() if traits_of(operator).weighted]
        if self.distillation is None or all(groups_of(operator) == 1 for operator in synapses):
            return self
        steps = self.distillation.iterations_at(self.timesteps, self.simulated_steps, depthwise=True)
        return replace(self, distillation=replace(self.distillation, iterations=steps))
