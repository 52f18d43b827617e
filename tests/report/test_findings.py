"""Each warning appears where something was made that deserves it, and nowhere else."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from snn_lightning import LCP, SpikingModel, calibrate, convert
from snn_lightning.analysis.results import Results
from snn_lightning.report.collect import collect
from snn_lightning.report.findings import NAMED, findings
from snn_lightning.report.page import write_report

from .support import words


def network() -> tuple[SpikingModel, torch.Tensor]:
    ann = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        ann[0].weight.fill_(1.0)
        ann[0].bias.zero_()
    x = torch.linspace(0.2, 0.9, 128)[:, None]
    return calibrate(ann, [x], LCP(timesteps=4), progress=False), x


def found(snn: SpikingModel, x: torch.Tensor | None = None, results: Results | None = None) -> list[str]:
    return findings(collect(snn, images=x, results=results))


def test_nothing_is_wrong() -> None:
    snn, x = network()
    assert [text for text in found(snn, x) if "grew" not in text] == []


def test_a_dead_and_a_saturated_channel(tmp_path: Path) -> None:
    snn, x = network()
    neuron = snn.neurons["_1"]
    neuron.v_init, neuron.bias = torch.zeros(3), torch.zeros(3)
    neuron.v_th = torch.tensor([1e3, 0.1, 0.8])
    silent, saturated = [text for text in found(snn, x) if "grew" not in text]
    assert silent.startswith("1 channel never fired on the 128 images: _1 (1 of 3). Where the ANN's")
    assert saturated.startswith(
        "1 channel fired at nearly every time step: _1 (1 of 3). They can't give more"
    )
    page = words(write_report(snn, tmp_path, images=x))
    assert silent in page
    assert saturated in page


def test_few_images() -> None:
    snn, _ = network()
    for record in snn.records:
        record["images"] = 127
    (text,) = [text for text in found(snn) if "small" in text]
    assert text.startswith("The calibration set is small: 127 images. The paper takes 128")
    for record in snn.records:
        del record["images"]  # as in a file of an older version
    assert not [text for text in found(snn) if "small" in text]


def test_records_know_the_number_of_images() -> None:
    assert [record["images"] for record in network()[0].records] == [128, 128]


def test_a_grown_error() -> None:
    """With a tiny threshold a rate is nearly nothing, and the error nearly all of the activation."""
    ann, x = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.rand(8, 2)
    before, snn = convert(ann, x, 4), convert(ann, x, 4)
    snn.neurons["_1"].set_threshold(torch.tensor(1e-6), "potential", 4)
    (text,) = findings(collect(snn, ann, before, x))[-1:]
    assert text.startswith("The error grew in the calibration at 1 of 1 stages: _1 (0.")
    assert " to 1). Calibrate with more images, or with fewer steps." in text
    assert not [text for text in findings(collect(before, ann, before, x)) if "grew" in text]


def test_weights_that_were_put_back() -> None:
    snn, _ = network()
    for record in snn.records:
        record["error"], record["steps"] = 0.1, {"weights": {"before": 0.1, "after": 0.1, "kept": 0.0}}
    snn.records[1]["steps"]["weights"]["kept"] = 1.0
    assert found(snn) == [
        "Trained weights were worse than those before and were put back: _1. Calibrate with more "
        "images, or take smaller steps (step_size)."
    ]


@pytest.mark.parametrize(("calibrated", "warns"), [(0.39, True), (0.4, False)])
def test_a_calibration_that_costs(calibrated: float, warns: bool) -> None:
    snn = convert(nn.ReLU(), torch.ones(1, 2), 2)
    results = {"uncalibrated_accuracy": 0.4, "snn_accuracy": calibrated}
    texts = found(snn, results=results)
    assert bool(texts) == warns
    assert not warns or texts[0].startswith(
        "The calibration has cost accuracy: 40.00 % before it and 39.00 %"
    )


def test_long_lists_are_cut() -> None:
    snn, _ = network()
    first = snn.records[0]
    first["steps"] = {"weights": {"before": 0.1, "after": 0.1, "kept": 0.0}}
    snn.records = [{**copy.deepcopy(first), "name": f"site{i}", "error": 0.1} for i in range(NAMED + 2)]
    (text,) = found(snn)
    assert "site7 and 2 more. Calibrate" in text
    assert "site8" not in text
