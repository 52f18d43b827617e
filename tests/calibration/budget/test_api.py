"""What is tried, when the search ends, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snn_lightning import (
    ACP,
    IF,
    LCP,
    Baseline,
    Parallel,
    SpikingModel,
    Weights,
    calibrate,
    calibrate_to,
    convert,
    load_converted,
)
from snn_lightning.analysis.energy import EnergyModel, measure_energy
from snn_lightning.analysis.trials import Trial
from snn_lightning.calibration.budget import search as search_module
from snn_lightning.calibration.budget import start as start_module
from snn_lightning.calibration.budget.kept import Kept
from snn_lightning.calibration.budget.search import BudgetResult
from snn_lightning.errors import CalibrationError, CheckpointError, SettingsError
from tests.calibration.support import same_bits


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def batches(seed: int, count: int = 64) -> list[Tensor]:
    images = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return list((3 * images).split(32))


def by_timesteps(scores: dict[int, float], ann: float = 0.9) -> Any:
    """A metric that knows an SNN's score from its T."""
    return lambda model: scores[model.timesteps] if isinstance(model, SpikingModel) else ann


SCORES = {1: 0.5, 2: 0.8, 4: 0.7, 8: 0.88, 16: 0.895, 32: 0.899}


def found(max_drop: float, **options: Any) -> BudgetResult:
    candidates = [LCP(t) for t in (32, 8, 16, 1, 2, 4)]
    options = {"metric": by_timesteps(SCORES), "candidates": candidates, "progress": False, **options}
    return calibrate_to(network(), batches(0), max_drop, **options)


@pytest.fixture
def calibrations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The T of each calibration that is made."""
    made: list[int] = []
    original = start_module.run_calibration

    def counting(ann: Any, images: Any, pipeline: Any, *rest: Any) -> Any:
        made.append(pipeline.timesteps)
        return original(ann, images, pipeline, *rest)

    monkeypatch.setattr(start_module, "run_calibration", counting)
    return made


@pytest.mark.parametrize(
    ("max_drop", "tried"), [(50, [1]), (10, [1, 2]), (2, [1, 2, 4, 8]), (0.5, [1, 2, 4, 8, 16])]
)
def test_from_small_time_steps_up_to_the_first_within_the_budget(max_drop: float, tried: list[int]) -> None:
    """No bisection: at T=4 the score falls."""
    result = found(max_drop)
    assert result.met
    assert [trial.timesteps for trial in result.trials] == tried
    assert [trial.met for trial in result.trials] == [False] * (len(tried) - 1) + [True]
    assert result.best == result.trials[-1]
    assert result.pipeline == LCP(tried[-1])
    assert [trial.drop for trial in result.trials] == [round(100 * (0.9 - SCORES[t]), 6) for t in tried]
    assert "Within" in result.summary


def test_the_snn_is_that_of_calibrate_and_the_ann_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    original = start_module.prepared
    monkeypatch.setattr(start_module, "prepared", lambda *args: prepared.append(1) or original(*args))
    candidates = [ACP(t, weights=Weights(iterations=3, batch_size=8)) for t in (2, 4)]
    ann, passes = network(), []

    class Loader:
        def __iter__(self) -> Any:
            passes.append(1)
            return iter(batches(0))

    before = {name: value.clone() for name, value in ann.state_dict().items()}
    scores = by_timesteps({2: 0.5, 4: 0.9})
    result = calibrate_to(ann, Loader(), 1, metric=scores, candidates=candidates, progress=False)
    assert same_bits(result.snn, calibrate(network(), batches(0), candidates[1], progress=False))
    assert (len(prepared), len(passes)) == (1, 1)
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())
    assert not result.snn.training
    assert [record["kind"] for record in result.snn.records] == ["neuron", "neuron", "readout"]
    energy = measure_energy(result.snn, torch.cat(batches(0))).ratio
    assert result.best.energy_ratio == pytest.approx(energy, abs=1e-6)
    assert result.best.seconds_an_image > 0
    assert result.best.seconds > 0


def test_a_budget_that_cannot_be_met_gives_the_one_that_loses_least() -> None:
    result = found(0.01)
    assert not result.met
    assert len(result.trials) == 6
    assert (result.best.timesteps, result.snn.timesteps) == (32, 32)
    text = (
        "No candidate loses 0.01 points or less. The best is LCP, IF, T=32, which loses 0.10. Try more time"
    )
    assert result.summary.startswith(text)
    # Of equals the first, which is the one with fewer time steps.
    same = found(1, metric=by_timesteps(dict.fromkeys(SCORES, 0.5)))
    assert same.best.timesteps == same.snn.timesteps == 1


def test_validation_images_with_and_without_labels() -> None:
    ann, images = network(), batches(1)
    with torch.no_grad():
        classes = [ann(x).argmax(1) for x in images]
    candidates = [LCP(t) for t in (1, 512)]
    options: dict[str, Any] = {"candidates": candidates, "progress": False}
    agreement = calibrate_to(ann, batches(0), 5, validation=iter(images), **options)
    assert agreement.ann_score == 1
    assert agreement.best.timesteps == 512
    with torch.no_grad():
        expected = torch.cat([agreement.snn(x).argmax(1) == y for x, y in zip(images, classes, strict=True)])
    assert agreement.best.score == pytest.approx(expected.double().mean().item())
    # Each second label is wrong: the ANN scores a half.
    labels = [(y + torch.arange(len(y)) % 2) % 3 for y in classes]
    pairs = list(zip(images, labels, strict=True))
    assert calibrate_to(ann, batches(0), 5, validation=pairs, **options).ann_score == 0.5


def test_the_cheaper_pipeline_comes_first_at_each_number_of_time_steps() -> None:
    weights = Weights(iterations=50, batch_size=8)
    candidates = [ACP(2, weights=weights), Baseline(4), Baseline(2), ACP(4, weights=weights)]
    result = found(0, candidates=candidates)
    assert [(t.pipeline, t.timesteps) for t in result.trials] == [
        ("Baseline", 2),
        ("ACP", 2),
        ("Baseline", 4),
        ("ACP", 4),
    ]
    cheapest = found(0, candidates=candidates, objective="seconds")
    order = [(t.pipeline, t.timesteps) for t in cheapest.trials]
    assert order[:2] == [("Baseline", 2), ("Baseline", 4)]


def test_the_energy_is_that_at_the_prices_that_are_given(tmp_path: Path, calibrations: list[int]) -> None:
    dear = EnergyModel(mac=9.2, ac=9.0, weight=1.0)
    default, other = found(50, folder=tmp_path), found(50, folder=tmp_path, energy=dear)
    # Trials at other prices are other trials, also where they are kept.
    assert calibrations == [1, 1]
    images = torch.cat(batches(0))
    assert default.best.energy_ratio == pytest.approx(measure_energy(default.snn, images).ratio, abs=1e-6)
    wanted = measure_energy(other.snn, images, model=dear).ratio
    assert other.best.energy_ratio == pytest.approx(wanted, abs=1e-6)
    assert wanted != pytest.approx(measure_energy(default.snn, images).ratio, rel=0.1)
    with pytest.raises(SettingsError, match="energy must be an EnergyModel"):
        found(50, energy=0.9)


def test_neurons_that_wait_are_compared_by_the_steps_of_an_inference() -> None:
    """Parallel ones take T for each layer and the readout, three times T; so IF neurons are tried first."""
    pipelines = [LCP(t, neuron=neuron) for t in (2, 4) for neuron in (Parallel(), IF())]
    result = found(5, candidates=pipelines, metric=by_timesteps({2: 0.5, 4: 0.5}))
    tried = [(trial.neuron, trial.timesteps, trial.latency_steps) for trial in result.trials]
    assert tried == [("IF", 2, 2), ("IF", 4, 4), ("Parallel", 2, 6), ("Parallel", 4, 12)]


def test_the_least_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pipeline goes up to its first T within the budget, or until it takes more than another's."""

    class Energy:
        ann_energy = 1.0

        def __init__(self, snn: SpikingModel, images: Tensor, model: EnergyModel) -> None:
            self.ratio = snn.timesteps * (0.1 if snn.conversion.rounding == "potential" else 0.04)

    monkeypatch.setattr(search_module, "measure_energy", Energy)
    candidates = [LCP(t, rounding=rounding) for t in (2, 4, 8, 16) for rounding in ("potential", "bias")]

    def metric(model: nn.Module) -> float:
        enough = {"potential": 4, "bias": 8}
        if isinstance(model, SpikingModel) and model.timesteps < enough[model.conversion.rounding]:
            return 0.5
        return 0.9

    result = found(1, candidates=candidates, metric=metric, objective="energy")
    tried = [(trial.pipeline, trial.timesteps) for trial in result.trials]
    assert tried == [("LCP", 2), ("LCP 2", 2), ("LCP", 4), ("LCP 2", 4), ("LCP 2", 8)]
    assert (result.best.pipeline, result.best.timesteps, result.best.energy_ratio) == ("LCP 2", 8, 0.32)
    assert result.snn.conversion.rounding == "bias"
    assert found(1, candidates=candidates, metric=metric).best.timesteps == 4


def test_a_killed_search_goes_on_after_the_last_trial(tmp_path: Path, calibrations: list[int]) -> None:
    class Killed(BaseException):
        pass

    def metric(model: nn.Module) -> float:
        if isinstance(model, SpikingModel) and model.timesteps == 8:
            raise Killed
        return by_timesteps(SCORES)(model)

    with pytest.raises(Killed):
        found(0.5, folder=tmp_path, metric=metric)
    assert calibrations == [1, 2, 4, 8]
    calibrations.clear()
    result = found(0.5, folder=tmp_path)
    assert calibrations == [8, 16]
    assert [trial.timesteps for trial in result.trials] == [1, 2, 4, 8, 16]
    (kept,) = tmp_path.glob("*.ckpt")
    assert same_bits(load_converted(kept), result.snn)
    whole = found(0.5)
    assert same_bits(whole.snn, result.snn)
    assert [(t.score, t.drop, t.met, t.energy_ratio) for t in whole.trials] == [
        (t.score, t.drop, t.met, t.energy_ratio) for t in result.trials
    ]


def test_a_finished_search_calibrates_nothing_again(tmp_path: Path, calibrations: list[int]) -> None:
    (tmp_path / "mine.ckpt").touch()
    first = found(0.5, folder=tmp_path)
    calibrations.clear()
    again = found(0.5, folder=tmp_path)
    assert calibrations == []
    assert again.trials == first.trials
    assert same_bits(again.snn, first.snn)
    assert again.snn.records == json.loads(json.dumps(first.snn.records))
    # A larger budget ends earlier; of that SNN the numbers alone are left.
    larger = found(2, folder=tmp_path)
    assert calibrations == [8]
    assert [trial.met for trial in larger.trials] == [False, False, False, True]
    assert larger.snn.timesteps == 8
    # Other scores, images or settings are other trials.
    calibrations.clear()
    found(50, folder=tmp_path, metric=by_timesteps(SCORES, ann=0.8))
    assert calibrations == [1]
    assert (tmp_path / "mine.ckpt").exists()
    for damaged in ('{"key": {"trial": {"T": 1}}}', "{", "[1]"):
        (tmp_path / "search.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="is no file of trials; delete it to start afresh"):
            found(50, folder=tmp_path)


def test_records_that_are_kept_have_all_numbers(tmp_path: Path) -> None:
    """Loggers and the page tell an error that is no number from none."""
    snn = convert(network(), batches(0)[0], timesteps=2)
    snn.records = ({"error": float("nan")}, {"error": float("inf")})
    Kept(tmp_path).add(
        "one", Trial("lcp", "if", 2, 2, 0.9, 1.5, False, None, 0.01, 3.0, 3.0), snn, best=False
    )
    kept = json.loads((tmp_path / "search.json").read_text())["one"]["stages"]
    assert math.isnan(kept[0]["error"])
    assert kept[1]["error"] == math.inf


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = network(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(2 * x))


@pytest.mark.parametrize("kept", [True, False])
def test_a_part_of_a_model(tmp_path: Path, kept: bool) -> None:
    model = Around().eval()
    candidates = [LCP(t) for t in (1, 512)]
    options: dict[str, Any] = {"network": "body", "folder": tmp_path if kept else None, "progress": False}
    for _ in range(1 + kept):
        result = calibrate_to(
            model, iter(batches(0)), 5, validation=batches(1), candidates=candidates, **options
        )
        expected = calibrate(model, batches(0), candidates[1], network="body", progress=False)
        assert isinstance(result.snn, Around)
        assert isinstance(model.body, nn.Sequential)
        assert same_bits(result.snn, expected)
    with pytest.raises(SettingsError, match="network must be the name of one part in a search"):
        calibrate_to(model, batches(0), 5, validation=batches(1), network=("body", "head"))


def test_progress_ends_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    found(50, progress=True)
    shown = capsys.readouterr().out
    assert "Trying LCP, IF, T=1" in shown
    assert "LCP, IF, T=1: loses 40.00 points, energy" in shown
    assert "│ LCP      │ IF     │ 1 │     1 │ 0.5000 │ 40.00 │" in shown
    assert shown.endswith("Within 50 points: LCP, IF, T=1, which loses 40.00\n")
    found(50)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"candidates": []}, "candidates is empty: give at least one pipeline"),
        (
            {"candidates": [LCP(4), ACP(4), LCP(4)]},
            "candidates has LCP, IF, T=4 twice with the same settings",
        ),
        ({"candidates": [4, 8]}, "candidates must be pipelines such as ACP.timesteps=8., got 4"),
        ({"candidates": LCP(4)}, "candidates must be a list such as .* got LCP"),
        ({"objective": "time"}, "objective must be one of"),
        (
            {"metric": lambda model: 0.0},
            "The ANN's score is 0, and nothing can be lost of it: check the labels",
        ),
        ({"metric": None}, r"There are no validation images: give validation=..., .* or metric=..."),
        ({"metric": 0.5}, "metric must be a function of a network, got 0.5"),
        ({"validation": batches(1)}, "metric and validation both say how a network is scored"),
        ({"metric": None, "validation": []}, "There are no validation images: validation must be a loader"),
        ({"metric": None, "validation": [torch.rand(0, 4)]}, "There are no validation images: every batch"),
        ({"metric": None, "validation": batches(1), "mode": "min"}, "mode='min' goes with a metric"),
        (
            {"metric": None, "validation": [(torch.rand(2, 4), torch.rand(2, 3))]},
            r"labels of validation must be whole numbers \(2,\), got \(2, 3\)",
        ),
        ({"metric": None, "validation": torch.rand(2, 4)}, r"validation is a tensor: .* or \[tensor\]"),
        (
            {"metric": None, "validation": [torch.full((2, 4), float("nan"))]},
            "gives NaN on the validation images: clean",
        ),
        (
            {"metric": None, "validation": [(torch.rand(2, 4), torch.tensor([0, 99]))]},
            "labels of validation must be of the . classes that the ANN has .* got 0 to 99",
        ),
        (
            {"metric": None, "validation": [(torch.rand(2, 4), "ab")]},
            r"labels of validation must be whole numbers \(2,\), got str",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], match: str, calibrations: list[int]) -> None:
    with pytest.raises(SettingsError, match=match):
        found(1, **options)
    assert calibrations == []


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (None, "metric must return a number, got None for the ANN"),
        (True, "metric must return a number, got True"),
        ("0.9", "metric must return a number, got '0.9'"),
        (torch.ones(2), "metric must return a number, got tensor"),
        (torch.tensor(float("nan")), "metric gives nan for the ANN: it must be a finite number"),
        (91.2, r"metric must be a fraction in \[0, 1\], got 91.2 for the ANN: divide percent by 100"),
    ],
)
def test_a_metric_that_gives_no_fraction(value: Any, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        found(1, metric=lambda model: value)


def test_a_metric_that_is_better_the_lower() -> None:
    errors = {t: 1 - score for t, score in SCORES.items()}
    with pytest.raises(SettingsError, match=r"0.5000 for the SNN and 0.1000 for the ANN, .* mode='min'"):
        found(2, metric=by_timesteps(errors, ann=0.1))
    result = found(2, metric=by_timesteps(errors, ann=0.1), mode="min")
    assert [trial.drop for trial in result.trials] == [40, 10, 20, 2]
    losses = {t: torch.tensor(3.0 - score) for t, score in SCORES.items()}
    assert found(2, metric=by_timesteps(losses, ann=2.1), mode="min").best.timesteps == 8


def test_an_snn_that_is_better_than_the_ann_loses_less_than_nothing() -> None:
    result = found(0, metric=by_timesteps({**SCORES, 2: 0.92}))
    assert (result.best.timesteps, result.best.drop) == (2, -2.0)


def test_other_errors() -> None:
    images = batches(0)
    with pytest.raises(SettingsError, match="validation is the calibration loader"):
        calibrate_to(network(), images, 1, validation=images)
    ann = nn.Sequential(network(), nn.AvgPool1d(3, padding=0), nn.ReLU())
    with pytest.raises(SettingsError, match=r"The network gives \(32, 1\) and no class scores"):
        calibrate_to(ann, images, 1, validation=batches(1))
    ann = nn.Sequential(network(), nn.Flatten(0))
    with pytest.raises(SettingsError, match=r"The network gives \(96,\) and no class scores"):
        calibrate_to(ann, images, 1, validation=batches(1))
    with pytest.raises(CalibrationError, match="The step 'weights' has 8 images"):
        calibrate_to(network(), batches(0, 8), 1, validation=batches(1), progress=False)
    converted = calibrate(Around().eval(), images, LCP(2), network="body", progress=False)
    with pytest.raises(SettingsError, match="'body' of Around holds a spiking network already"):
        calibrate_to(converted, images, 1, validation=batches(1), network="body")
