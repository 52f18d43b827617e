import pytest
import torch

from snn_lightning.training import AccuracyOverTime


def readout(winners: list[list[int]], classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(winners), classes).float()


def test_accuracy_after_each_time_step_over_unequal_batches() -> None:
    metric = AccuracyOverTime(3)
    metric.update(readout([[0, 0], [0, 1], [2, 1]]), torch.tensor([0, 1]))
    metric.update(readout([[2], [1], [2]]), torch.tensor([2]))
    assert metric.compute().tolist() == [2 / 3, 2 / 3, 2 / 3]
    metric.update(readout([[0, 0, 0], [0, 1, 0], [0, 1, 1]]), torch.tensor([0, 1, 1]))
    assert metric.compute().tolist() == [3 / 6, 4 / 6, 5 / 6]
    metric.reset()
    metric.update(readout([[0], [1], [1]]), torch.tensor([1]))
    assert metric.compute().tolist() == [0.0, 1.0, 1.0]


def test_states_are_summed_over_processes() -> None:
    metric = AccuracyOverTime(2)
    assert metric._reductions.keys() == {"correct", "total"}
    assert all(
        reduction is torch.sum or reduction.__name__ == "dim_zero_sum"
        for reduction in metric._reductions.values()
    )


@pytest.mark.parametrize("shape", [(2, 4, 3), (4, 3)])
def test_a_readout_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[3, N, classes\]"):
        AccuracyOverTime(3).update(torch.zeros(shape), torch.zeros(4, dtype=torch.long))
