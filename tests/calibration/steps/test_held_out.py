"""Held-out calibration images: no fit sees them, and they decide how far it goes."""

from collections.abc import Callable
from importlib import import_module

import pytest
import torch

from snn_lightning import ACP, LCP, Augmentation, Best, Distillation, LeastSquares, Max, Weights, calibrate
from snn_lightning.calibration.images import held_out_last
from snn_lightning.calibration.steps.held_out import SHARES, go_back
from snn_lightning.calibration.steps.ridge import RIDGE, RIDGES, RidgeProblem
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.errors import SettingsError
from snn_lightning.graph import normalise, prepare
from tests.calibration.support import in_two_threads, largest_difference, make_loop, parameters, same_bits
from tests.toys import PlainConv, Residual, inputs, toy

HELD = torch.stack(held_out_last([torch.arange(40)], 10)[30:])
"""The numbers of the images that are held out of 40."""

FITS = {
    "weights": ACP(4, threshold=Max(), weights=Weights(iterations=20, batch_size=8), potential=None),
    "least_squares": ACP(4, threshold=Max(), weights=LeastSquares(ridge=RIDGE), potential=None),
    "distillation": Best(
        4, threshold=Max(), weights=None, potential=None, distillation=Distillation(20, batch_size=8)
    ),
}


@pytest.mark.parametrize(("best", "share"), [(0.0, 0.0), (1.1, 0.25), (3.9, 1.0), (9.0, 1.0)])
def test_goes_back_to_where_the_error_is_least(best: float, share: float) -> None:
    weight, other = torch.tensor([4.0]), torch.tensor([[8.0]])
    old, unfitted = [torch.zeros(1), torch.zeros(1, 1)], abs(best)
    found = go_back([weight, other], old, lambda: abs(weight.item() - best), unfitted)
    assert found == (share, pytest.approx(abs(4 * share - best)))
    assert (weight.item(), other.item()) == (4 * share, 8 * share)


def test_what_is_not_a_number_is_never_best() -> None:
    weight = torch.tensor([4.0])
    found = go_back([weight], [torch.zeros(1)], lambda: float("nan") if weight > 1 else 7.0, float("nan"))
    assert (*found, weight.item()) == (0.25, 7.0, 1.0)


@pytest.mark.parametrize(("unfitted", "share"), [(3.0, 1.0), (2.0, 1.0), (1.0, 0.0)])
def test_where_nothing_is_held_out_it_is_the_whole_way_or_none(unfitted: float, share: float) -> None:
    weight = torch.tensor([4.0])
    found = go_back([weight], [torch.zeros(1)], lambda: weight.item() / 2, unfitted, held_out=False)
    assert (*found, weight.item()) == (share, min(unfitted, 2.0), 4 * share)


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_doesnt_see_what_is_held_out(fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out images are black, or are those beside them: the fit is the same, its error isn't."""
    module = import_module(f"snn_lightning.calibration.steps.{fit}")
    errors: list[float] = []

    def stay(
        parameters: object, before: object, error: Callable[[], float], *rest: object
    ) -> tuple[float, float]:
        errors.append(error())
        return 1.0, errors[-1]

    monkeypatch.setattr(module, "go_back", stay)
    loops = []
    for factor in (0, 1):
        images = inputs(Residual, 40)
        images[HELD] = factor * images[HELD + 1]
        loop = make_loop(toy(Residual), images, FITS[fit])
        assert (loop.fitted, loop.total) == (30, 40)
        loop.run()
        loops.append(loop)
    # Distillation takes its unit from all images; that of Adam's steps is their own.
    assert largest_difference(*(parameters(loop.snn) for loop in loops)) < (
        1e-3 if fit == "distillation" else 1e-6
    )
    half = len(errors) // 2
    assert errors[:half] != errors[half:]


@pytest.mark.parametrize("fit", FITS)
def test_what_makes_held_out_images_worse_is_undone(fit: str) -> None:
    """They are of another kind than those that are fitted, so that no fit helps them."""
    images = inputs(Residual, 40)
    images[HELD] = 3 * torch.randn(images[HELD].shape, generator=torch.Generator().manual_seed(3))
    loop = make_loop(toy(Residual), images, FITS[fit])
    loop.run()
    numbers = [record["steps"][fit] for record in loop.records if fit in record["steps"]]
    assert numbers
    assert all(one["after"] <= one["before"] for one in numbers)
    assert {one["kept"] for one in numbers} <= {*SHARES, 0.0}
    assert min(one["kept"] for one in numbers) < 1


@pytest.mark.parametrize("fit", FITS)
def test_two_processes_hold_the_same_images_out(fit: str) -> None:
    ann, images = toy(Residual), inputs(Residual, 40)
    alone = calibrate(ann, [images], FITS[fit], progress=False)
    for model in in_two_threads(ann, [images], FITS[fit]):
        assert largest_difference(parameters(alone), parameters(model)) < 1e-3
        for one, other in zip(alone.records, model.records, strict=True):
            if fit in one["steps"]:
                assert one["steps"][fit]["kept"] == other["steps"][fit]["kept"]


def test_the_ridge_is_the_one_that_explains_the_held_out_images_best() -> None:
    """Literally: each ridge is tried on the images that are fitted, and measured on the others."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 6, generator=generator), torch.randn(24, 3, generator=generator)

    def problem() -> tuple[RidgeProblem, torch.nn.Linear, str]:
        ann = torch.nn.Sequential(torch.nn.Linear(6, 3), torch.nn.ReLU()).eval()
        torch.nn.init.zeros_(ann[0].weight)
        torch.nn.init.zeros_(ann[0].bias)
        network = prepare(normalise(ann, x), x)
        name = network.stages[0].current
        made, key = RidgeProblem(network, (name,), None), network.nodes[name].inputs[0]
        made.add({key: x[:12]}, y[:12])
        return made, network.operators[name], key

    errors = {}
    for ridge in RIDGES:
        made, linear, _ = problem()
        made.solve(ridge, Communicator())
        errors[ridge] = (linear(x[12:]) - y[12:]).square().sum().item()
    made, linear, key = problem()
    made.add({key: x[12:]}, y[12:], held_out=True)
    made.solve(None, Communicator())
    assert made.ridge == min(errors, key=errors.__getitem__) != RIDGE
    assert (linear(x[12:]) - y[12:]).square().sum().item() == pytest.approx(min(errors.values()))


def test_without_held_out_images_the_ridge_is_the_usual_one() -> None:
    loop = make_loop(toy(PlainConv), inputs(PlainConv, 16), ACP(4, weights=LeastSquares(), held_out=0))
    usual = make_loop(toy(PlainConv), inputs(PlainConv, 16), ACP(4, weights=LeastSquares(RIDGE), held_out=0))
    for one in (loop, usual):
        one.run()
    assert same_bits(loop.snn, usual.snn)


@pytest.mark.parametrize(
    ("pipeline", "images", "held"),
    [
        (ACP(4, weights=LeastSquares()), 8, 2),
        (ACP(4, weights=LeastSquares()), 1, 0),
        (ACP(4, weights=LeastSquares()), 255, 64),
        (ACP(4, weights=LeastSquares()), 256, 0),
        (ACP(4, weights=LeastSquares(), held_out=0.1), 4000, 400),
        (ACP(4, weights=None), 100, 0),
        (LCP(4), 100, 0),
        (ACP(4, augment=Augmentation(images=128)), 8, 2),  # 96 of the copies are fitted to
        (ACP(4, weights=LeastSquares(), held_out=0), 100, 0),
        (ACP(4, augment=None), 40, 8),  # 32 must be left for a mini-batch
        (ACP(4, augment=None), 32, 0),
        (Best(4, distillation=Distillation(batch_size=16), augment=None, held_out=0.5), 40, 20),
    ],
)
def test_how_many_are_held_out(pipeline: ACP, images: int, held: int) -> None:
    assert pipeline.count_held_out(images) == held


@pytest.mark.parametrize("share", [-0.1, 1, "half"])
def test_a_share_that_is_none(share: object) -> None:
    with pytest.raises(SettingsError, match=r"pipeline.held_out must be in \[0, 1\)"):
        ACP(4, held_out=share)  # type: ignore[arg-type]
