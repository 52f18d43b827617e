"""The work of a calibration in plain numbers."""

import pytest
import torch

from snn_lightning import ACP, LCP, Best, Bias, Distillation, Potential, Weights
from snn_lightning.analysis.cost.workload import Work
from tests.toys import AS_GIVEN


def test_a_pipeline_as_plain_numbers() -> None:
    assert LCP(8).work(50) == Work(50, 8, 50)
    assert LCP(8, bias=None, calibrate_readout=False).work(50) == Work(50, 8, readout=False)
    pipeline = ACP(8, **AS_GIVEN, weights=Weights(20, 0.1), potential=Potential(30), cache_budget_gb=2)
    assert pipeline.work(50, 4) == Work(50, 8, 30, 20, 32, budget=2e9, processes=4)
    assert ACP(8, **AS_GIVEN).work(50).power_iterations == 8
    assert LCP(8, bias=Bias(16)).work(50).corrected == 16
    assert Best(8, **AS_GIVEN).work(50) == Work(
        50, 8, 50, solutions=4, solved=50, distilled=12800, distilled_steps=400
    )
    assert Best(8, **AS_GIVEN, distillation=Distillation(7, 5)).work(50).distilled == 35


@pytest.mark.parametrize(("batch", "processes"), [(32, 3), (32, 12), (8, 3)])
def test_the_largest_share_of_a_mini_batch(batch: int, processes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(processes, (4000, batch), generator=generator)
    counts = torch.nn.functional.one_hot(drawn, processes).sum(1)
    expected = counts.amax(1).double().mean().item()
    assert Work(1, 1, batch_size=batch, processes=processes).largest_batch == pytest.approx(
        expected, rel=0.08
    )
