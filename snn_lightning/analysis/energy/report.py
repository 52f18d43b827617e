"""What an inference costs, stage by stage and in all."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from snn_lightning.analysis.energy.model import EnergyModel, StageEnergy
from snn_lightning.analysis.format import si
from snn_lightning.tables import aligned


@dataclass(frozen=True)
class EnergyReport:
    """What an inference costs; print it for a table. From `measure_energy`.

    Args:
        stages: operations of each stage.
        timesteps: T.
        images: how many were simulated.
        model: the prices; `dataclasses.replace(report, model=...)` has the same operations at others.
    """

    stages: tuple[StageEnergy, ...]
    timesteps: int
    images: int
    model: EnergyModel = field(default_factory=EnergyModel)

    @property
    def total(self) -> StageEnergy:
        """The operations of all stages together."""
        counts = [f.name for f in fields(StageEnergy) if f.name not in ("name", "kind")]
        sums = {name: sum(getattr(stage, name) for stage in self.stages) for name in counts}
        return StageEnergy("total", "", **sums)

    @property
    def spikes(self) -> float:
        """Spikes of one image."""
        return self.total.spikes

    @property
    def firing_rate(self) -> float:
        """Spikes a neuron and time step."""
        return self.spikes / (self.timesteps * self.total.neurons)

    @property
    def firing_rates(self) -> dict[str, float]:
        """Spikes a neuron and time step of each site, in topological order."""
        return {s.name: s.spikes / (s.neurons * self.timesteps) for s in self.stages if s.kind == "neuron"}

    @property
    def synaptic_operations(self) -> float:
        """Accumulates of one image."""
        return self.total.accumulates

    @property
    def multiplications(self) -> float:
        """Multiply-accumulates of one image in the SNN."""
        return self.total.multiplications

    @property
    def energy(self) -> float:
        """Energy of one image in the SNN, pJ."""
        return self.model.snn(self.total)

    @property
    def ann_energy(self) -> float:
        """Energy of one image in the ANN, pJ."""
        return self.model.ann(self.total)

    @property
    def skipping_energy(self) -> float:
        """Energy of one image in an ANN that skips zeros, pJ."""
        return self.model.skipping(self.total)

    @property
    def analog(self) -> float:
        """The share of the ANN's multiply-accumulates that stays analog."""
        return self.total.analog / max(self.total.ann, 1)

    @property
    def ratio(self) -> float:
        """Energy of the SNN over the ANN's."""
        return self.energy / self.ann_energy

    @property
    def skipping_ratio(self) -> float | None:
        """Energy of the SNN over that of an ANN that skips zeros; None where that one has nothing else."""
        return self.energy / self.skipping_energy if self.skipping_energy else None

    def results(self) -> dict[str, float | None]:
        """Return what `results.json` holds of it."""
        skipping = self.skipping_ratio
        return {
            "spikes_per_image": round(self.spikes, 2),
            "firing_rate": round(self.firing_rate, 6),
            "synaptic_operations": round(self.synaptic_operations, 2),
            "energy_ratio": round(self.ratio, 6),
            "energy_ratio_zero_skipping": None if skipping is None else round(skipping, 6),
        }

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("stage", "spikes", "rate", "accumulates", "MACs", "ANN MACs", "not of zeros")
        ]
        for s in (*self.stages, self.total):
            rate = f"{s.spikes / (s.neurons * self.timesteps):.3f}" if s.neurons else "-"
            numbers = (s.accumulates, s.multiplications, s.ann, s.nonzero)
            rows.append((s.name, si(s.spikes), rate, *map(si, numbers)))
        analog = f", {100 * self.analog:.3g} % of the ANN's MACs stay analog" if self.total.analog else ""
        lines = [
            f"Operations of one image at T={self.timesteps}, mean over {self.images} images{analog}",
            *aligned(rows),
            f"Energy: {_micro(self.energy)}, {100 * self.ratio:.1f} % of the ANN's {_micro(self.ann_energy)} "
            f"({self.model})",
        ]
        if (skipping := self.skipping_ratio) is not None:
            other = _micro(self.skipping_energy)
            lines.append(f"An ANN that skips zeros: {other}, of which the SNN's is {100 * skipping:.1f} %")
        return "\n".join(lines)


def _micro(energy: float) -> str:
    return f"{energy * 1e-6:.3g} µJ"
