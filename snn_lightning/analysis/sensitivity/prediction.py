"""What the errors of single sites do to the output, predicted from gradients of the ANN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.analysis.mismatch import counterpart
from snn_lightning.analysis.propagation import depth_weights
from snn_lightning.analysis.sensitivity.simulation import (
    Activations,
    check_images,
    flat,
    simulate,
    square,
)
from snn_lightning.errors import SettingsError
from snn_lightning.graph.ir import Stage
from snn_lightning.graph.network import StageNetwork
from snn_lightning.settings import check_choice, check_whole
from snn_lightning.spiking.model import SpikingModel
from snn_lightning.tables import aligned

ORDERS = ("predicted", "diagonal", "weighted", "error")


@dataclass(frozen=True)
class SiteSensitivity:
    """What the error of one site does to the output. Squared norms, summed over the images.

    Args:
        name: of the site.
        module: qualified name of the module that computes it, or in whose code it is computed.
        error: ||e||² over ||x||²: of the site itself.
        predicted: e' H e / 2 over ||y||², y the ANN's output: the relative squared error that e alone makes
            there, to first order.
        diagonal: the same with H as its diagonal.
        weighted: 2^(n - l + 1) ||e||², the site's term in PC eq. 16, H being one constant everywhere.
    """

    name: str
    module: str
    error: float
    predicted: float
    diagonal: float
    weighted: float


@dataclass(frozen=True)
class SensitivityReport:
    """The sites, worst first; print it for a table. From `sensitivity`.

    Args:
        rows: by falling `predicted`.
        output_error: of the SNN, ||y - ȳ||² over ||y||².
        local: whether e is only the site's own error.
        timesteps: T.
        images: how many were simulated.
    """

    rows: tuple[SiteSensitivity, ...]
    output_error: float
    local: bool
    timesteps: int
    images: int

    def worst(self, count: int | None = None, by: str = "predicted") -> tuple[str, ...]:
        """Return the names of the `count` worst sites, worst first.

        Args:
            count: how many; all by default.
            by: "predicted", "diagonal", "weighted" or "error".

        Raises:
            SettingsError: a field makes no sense.
        """
        check_whole("count", count, optional=True)
        check_choice("by", by, ORDERS)
        ranked = sorted(self.rows, key=lambda row: getattr(row, by), reverse=True)
        return tuple(row.name for row in ranked[:count])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("site", "predicted", "diagonal", "site error", "module")]
        for r in self.rows:
            rows.append((r.name, *(f"{n:.3g}" for n in (r.predicted, r.diagonal, r.error)), r.module or "-"))
        whose = "their own errors" if self.local else "their errors"
        return "\n".join(
            [
                f"Sites by what {whose} do to the output, over ‖y‖², at T={self.timesteps}, {self.images} "
                "images",
                *aligned(rows, left=(0, 4)),
                f"The output's whole error is {self.output_error:.3g}; effects of single sites don't add up",
            ]
        )


@torch.inference_mode(False)
@torch.enable_grad()
def sensitivity(
    ann: nn.Module,
    snn: SpikingModel,
    images: Tensor,
    local: bool = False,
    probes: int = 64,
    seed: int = 0,
) -> SensitivityReport:
    """Rank the sites of `snn` by what their errors do to its output (PC 4.2).

    Of L(a) = ||y - a||² a site's error e = x - s̄ alone makes `e' H e / 2`, H the Hessian of L with respect
    to the site's activation (PC eq. 12, Theorem 4.1). L is quadratic and ReLU has no curvature, so H = 2 J' J
    with the Jacobian J of the output: gradients of the outputs are enough, and H is never built. `predicted`
    sums (v' J e)² over probes v; `diagonal` sums (J' v)² e² over neurons too, which are squared gradients as
    in Fisher information. The probes are all outputs, one by one, where there are no more than `probes`, and
    else random signs, whose mean is the same. PC eq. 16 takes H for one constant: `weighted`.

    Args:
        ann: the network that was converted, or its normalised `StageNetwork`; left as it is.
        snn: the spiking network, in eval mode, on the ANN's scale (before `rescale_to_unit_spikes`).
        images: `[N, ...]` on their device.
        local: take for e the site's own error alone, e_c of PC eq. 14: the activation at the mean current
            that the SNN delivers, minus the rate. By default the error of earlier sites is in it.
        probes: most gradients of outputs that are taken.
        seed: of random probes.

    Raises:
        ConversionError: the ANN can't be converted.
        SettingsError: there is no image, `snn` is no SNN of this ANN, its output has no gradient, or a field
            makes no sense.

    Example:
        >>> from snn_lightning import convert
        >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> report = sensitivity(ann, convert(ann, torch.rand(8, 2), timesteps=4), torch.rand(8, 2))
        >>> [row.name for row in report.rows]
        ['_1']
    """
    check_whole("probes", probes)
    check_images(images, "sensitivity")
    images = images.clone() if images.is_inference() else images
    network = counterpart(ann, snn, images)
    sums = {site: _Sums() for site in network.sites}
    generator = torch.Generator().manual_seed(seed)
    squares = wrong = 0.0
    for chunk in images.split(snn.images_at_once):
        output, targets, rates = simulate(network, snn, chunk, local)
        tracked = _Shifted(network, chunk)
        expected = flat(network.arrange(tracked.outputs))
        if not expected.requires_grad:
            raise SettingsError("The network's output has no gradient: an operator behind the sites has none")
        for probe in _probes(expected, probes, generator):
            shifts = list(tracked.shifts.values())
            gradients = torch.autograd.grad(
                expected, shifts, probe, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for site, gradient in zip(tracked.shifts, gradients, strict=True):
                sums[site].probe(gradient.detach(), targets[site] - rates[site])
        for site in network.sites:
            sums[site].count(tracked.activations[site], targets[site] - rates[site])
        squares += square(expected.detach())
        wrong += square(expected.detach() - output)
    weights = dict(zip(network.sites, depth_weights(len(network.sites)), strict=True))
    rows = [
        SiteSensitivity(
            name=site,
            module=network.nodes[site].path,
            error=s.error / (s.square or s.error or 1.0),
            predicted=s.predicted / (squares or 1.0),
            diagonal=s.diagonal / (squares or 1.0),
            weighted=weights[site] * s.error,
        )
        for site, s in sums.items()
    ]
    rows.sort(key=lambda row: row.predicted, reverse=True)
    return SensitivityReport(tuple(rows), wrong / (squares or 1.0), local, snn.timesteps, len(images))


@dataclass
class _Sums:
    """Sums over images of one site: ||e||², ||x||², e' H e / 2 and e' diag(H) e / 2."""

    error: float = 0.0
    square: float = 0.0
    predicted: float = 0.0
    diagonal: float = 0.0

    def probe(self, gradient: Tensor, error: Tensor) -> None:
        product = (gradient * error).flatten(1)
        self.predicted += square(product.sum(1))
        self.diagonal += square(product)

    def count(self, x: Tensor, error: Tensor) -> None:
        self.error += square(error)
        self.square += square(x)


class _Shifted(Activations):
    """Adds a shift of 0 at each site, by which the output can be differentiated."""

    def __init__(self, network: StageNetwork, images: Tensor) -> None:
        self.shifts: dict[str, Tensor] = {}
        super().__init__(network, images)

    def unit(self, stage: Stage, current: Tensor) -> Tensor:
        x = super().unit(stage, current)
        if stage.kind != "neuron":
            return x
        shift = self.shifts[stage.name] = torch.zeros_like(x, requires_grad=True)
        return x + shift


def _probes(output: Tensor, most: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield vectors v like the outputs `[N, K]`, whose squares (v' u)² add up to ||u||² in the mean."""
    if output.shape[1] <= most:
        for column in torch.eye(output.shape[1], dtype=output.dtype, device=output.device):
            yield column.expand_as(output)
        return
    for _ in range(most):
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
        yield signs / most**0.5
