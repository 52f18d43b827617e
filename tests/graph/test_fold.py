"""Batch norms folded by data flow, against numbers worked out by hand and against the network itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from snn_lightning.graph import normalise
from snn_lightning.graph.passes.fold import fold_into, scale_and_shift

from ..toys import randomise_batch_norms
from .nets import images, net


def norm_by_hand(cls: type[nn.Module] = nn.BatchNorm2d) -> Any:
    # σ = sqrt(3.75 + 0.25) = 2 and sqrt(0.75 + 0.25) = 1
    norm = cls(2, eps=0.25).eval()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([3.75, 0.75]))
    norm.weight.data = torch.tensor([3.0, 0.5])
    norm.bias.data = torch.tensor([0.25, 4.0])
    return norm


def test_scale_and_shift_by_hand() -> None:
    scale, shift = scale_and_shift(norm_by_hand())
    # γ/σ, β - μ γ/σ
    assert scale.tolist() == [1.5, 0.5]
    assert shift.tolist() == [0.25 - 1.5, 4.0 + 1.0]


def test_weights_and_bias_by_hand() -> None:
    conv = nn.Conv2d(1, 2, 1)
    conv.weight.data = torch.tensor([2.0, -4.0]).view(2, 1, 1, 1)
    conv.bias.data = torch.tensor([3.0, 1.0])
    fold_into(conv, norm_by_hand())
    # W γ/σ; β + (b - μ) γ/σ
    assert conv.weight.flatten().tolist() == [3.0, -2.0]
    assert conv.bias.tolist() == [0.25 + (3.0 - 1.0) * 1.5, 4.0 + (1.0 + 2.0) * 0.5]


def test_a_synapse_without_bias_gets_one() -> None:
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[2.0], [-4.0]])
    fold_into(linear, norm_by_hand(nn.BatchNorm1d))
    assert linear.weight.flatten().tolist() == [3.0, -2.0]
    assert linear.bias.tolist() == [0.25 - 1.5, 4.0 + 1.0]


def test_a_batch_norm_without_parameters_folds() -> None:
    norm = nn.BatchNorm2d(2, eps=0.0, affine=False).eval()
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 16.0]))
    assert [part.tolist() for part in scale_and_shift(norm)] == [[0.5, 0.25], [-0.5, -0.5]]


def operators(ann: nn.Module, x: torch.Tensor | None = None) -> list[str]:
    x = images(4) if x is None else x
    network = normalise(ann, x)
    with torch.no_grad():
        expected, got = ann(x), network(x)
    for a, b in zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]:
        assert ((a - b).norm() / a.norm()).item() < 1e-5
    return [node.op for node in network.nodes.values()]


CASES: list[tuple[type[nn.Module], type[nn.Module], tuple[int, ...]]] = [
    (nn.Conv1d, nn.BatchNorm1d, (4, 3, 7)),
    (nn.Conv2d, nn.BatchNorm2d, (4, 3, 7, 7)),
    (nn.Conv2d, nn.SyncBatchNorm, (4, 3, 7, 7)),
    (nn.Conv3d, nn.BatchNorm3d, (4, 3, 5, 5, 5)),
]


@pytest.mark.parametrize(("conv", "norm", "shape"), CASES)
@pytest.mark.parametrize("groups", [1, 3])
def test_every_kind_of_batch_norm_folds(
    conv: Callable[..., nn.Module], norm: Callable[..., nn.Module], shape: tuple[int, ...], groups: int
) -> None:
    ann = nn.Sequential(conv(3, 6, 3, groups=groups, bias=groups == 1), norm(6), nn.ReLU())
    assert operators(randomise_batch_norms(ann).eval(), torch.randn(shape)) == [conv.__name__, "Activation"]


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 6, 3, bias=False), nn.ConvTranspose2d(3, 6, 3)])
def test_a_frozen_batch_norm_folds_as_any_other(conv: nn.Module) -> None:
    norm = randomise_batch_norms(nn.BatchNorm2d(6))
    frozen = FrozenBatchNorm2d(6)
    frozen.load_state_dict({k: v for k, v in norm.state_dict().items() if "num_batches" not in k})
    x = torch.randn(4, 3, 7, 7)
    anns = [nn.Sequential(conv, part, nn.ReLU()).eval() for part in (norm, frozen)]
    assert [operators(ann, x) for ann in anns] == [[type(conv).__name__, "Activation"]] * 2
    assert torch.equal(*(normalise(ann, x)(x) for ann in anns))
    alone = nn.Sequential(nn.ReLU(), frozen)
    assert operators(alone, torch.randn(4, 6, 7, 7)) == ["Activation", "Affine"]


def test_a_linear_layers_batch_norm_folds() -> None:
    ann = randomise_batch_norms(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU())).eval()
    assert operators(ann, torch.randn(4, 5)) == ["Linear", "Activation"]


def test_two_batch_norms_in_a_row_fold() -> None:
    assert operators(net(lambda s, x: F.relu(s.other_norm(s.norm(s.conv(x)))))) == ["Conv2d", "Activation"]


def test_one_convolution_with_two_batch_norms_folds_twice() -> None:
    ann = net(lambda s, x: F.relu(s.norm(s.conv(x))) + F.relu(s.other_norm(s.conv(x))))
    assert operators(ann) == ["Conv2d", "Activation", "Conv2d", "Activation", "Add"]


def test_one_batch_norm_behind_two_convolutions_folds_into_both() -> None:
    ann = net(lambda s, x: F.relu(s.norm(s.second(F.relu(s.norm(s.conv(x)))))))
    assert operators(ann) == ["Conv2d", "Activation", "Conv2d", "Activation"]


AFFINE: dict[str, Callable[..., Any]] = {
    "convolution with another reader": lambda s, x: F.relu(s.norm(y := s.conv(x))) + y,
    "convolution that is an output": lambda s, x: (F.relu(s.norm(y := s.conv(x))), y),
    "folded convolution that is an output": lambda s, x: (F.relu(s.other_norm(y := s.norm(s.conv(x)))), y),
    "behind an activation": lambda s, x: s.norm(F.relu(s.conv(x))),
    "behind a sum": lambda s, x: F.relu(s.norm(s.conv(x) + s.conv(x))),
    "behind a pooling": lambda s, x: F.relu(s.norm(F.avg_pool2d(s.conv(x), 2))),
    "two batch norms of one convolution": lambda s, x: F.relu(s.norm(y := s.conv(x))) + s.other_norm(y),
}


@pytest.mark.parametrize("case", AFFINE)
def test_what_has_other_readers_or_no_synapse_stays_affine(case: str) -> None:
    found = operators(net(AFFINE[case]))
    assert found.count("Affine") == (2 if case.startswith("two") else 1)
    assert "BatchNorm" not in found


def test_the_users_convolution_is_left_alone() -> None:
    ann = net(lambda s, x: F.relu(s.norm(s.conv(x))))
    before = ann.conv.weight.clone()
    normalise(ann, images())
    assert torch.equal(ann.conv.weight, before)
