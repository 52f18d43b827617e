"""Linear operators beyond the usual ones compute the same, and every operator is affine and batch-first."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import _patch_merging_pad

from snn_lightning import convert, rescale_to_unit_spikes
from snn_lightning.errors import ConversionError
from snn_lightning.graph import INPUT, StageNetwork, normalise
from snn_lightning.graph.ir import ACTIVATION
from snn_lightning.graph.operators import OPERATORS, traits_of
from snn_lightning.graph.passes.fold import fold_into

from ..toys import randomise_batch_norms
from ..versions import TORCH
from .nets import images, net
from .test_sites import FORMS as USUAL
from .test_sites import assert_equal

POSITIONS = torch.linspace(-1, 1, 36).view(6, 6)


def unbound(s: Any, x: Tensor) -> Tensor:
    a, b, c, d = torch.unbind(F.relu(s.conv(x)), 1)
    return torch.stack([b - a, d + c], dim=1)


def unbound_from_behind(s: Any, x: Tensor) -> Tensor:
    parts = F.relu(s.conv(x)).unbind(dim=-1)[::-1]
    return torch.stack([parts[column] for column in range(6)], -1)


def split_in_three(s: Any, x: Tensor) -> Tensor:
    a, b, c = F.relu(s.conv(x)).tensor_split(3, dim=1)[::-1]
    return torch.cat([a, b, c], 1)


FORMS: dict[str, Callable[..., Any]] = {
    "reflect": lambda s, x: s.second(F.pad(F.relu(s.conv(x)), (1, 2, 0, 1), mode="reflect")),
    "replicate": lambda s, x: s.second(F.pad(F.relu(s.conv(x)), (1, 2, 0, 1), "replicate")),
    "circular": lambda s, x: s.second(F.pad(F.relu(s.conv(x)), (1, 2, 3, 1), "circular")),
    "F.pixel_shuffle": lambda s, x: F.pixel_shuffle(F.relu(s.conv(x)), 2),
    "F.pixel_unshuffle": lambda s, x: F.pixel_unshuffle(F.relu(s.conv(x)), 3),
    "F.channel_shuffle": lambda s, x: s.second(F.channel_shuffle(F.relu(s.conv(x)), 2)),
    "stack": lambda s, x: torch.stack([F.relu(s.conv(x)), s.conv(x)], dim=2),
    "stack at the end": lambda s, x: torch.stack((F.relu(s.conv(x)), s.conv(x)), dim=-1).flatten(1),
    "stacked members": lambda s, x: torch.stack([s.conv(x).relu(), s.conv(x), s.norm(s.conv(x))]).mean(0),
    "sum of a stack": lambda s, x: F.relu(torch.sum(torch.stack((s.conv(x).relu(), s.conv(x)), 0), dim=[0])),
    "unbind": unbound,
    "unbind method": unbound_from_behind,
    "select": lambda s, x: s.linear(F.relu(s.conv(x)).select(-1, -2).select(2, 1)),
    "narrow": lambda s, x: s.norm(F.relu(s.conv(x)).narrow(2, 1, 3)) + torch.narrow(s.conv(x), 2, -3, 3),
    "slices with a step": lambda s, x: s.second(F.relu(s.conv(x))[:, :, 1::2, ::3]),
    "new dimensions": lambda s, x: F.relu(s.conv(x)[:, None, 1:3, ..., 2])[..., None, 1:],
    "slices behind an ellipsis": lambda s, x: s.conv(x).relu()[..., 1:4, 2] - s.conv(x)[:, ..., 0:3, -1],
    "tensor_split": split_in_three,
    "swapaxes": lambda s, x: torch.swapaxes(F.relu(s.conv(x)), -1, -2) + s.conv(x).swapdims(2, 3),
    "movedim": lambda s, x: torch.movedim(F.relu(s.conv(x)), 1, -1) - s.conv(x).moveaxis((1, 2), (3, 1)),
    "sum": lambda s, x: s.linear(F.relu(s.conv(x)).sum((2, 3)) / 36),
    "torch.sum": lambda s, x: F.relu(s.conv(x)) - 0.1 * torch.sum(s.conv(x), dim=-1, keepdim=True),
    "matmul with weights": lambda s, x: F.relu(s.conv(x)).mean((2, 3)) @ s.linear.weight.t(),
    "torch.matmul": lambda s, x: torch.matmul(
        F.relu(s.conv(x)).permute(0, 2, 3, 1), s.second.weight[:, 0, :, 0]
    ),
    "einsum": lambda s, x: torch.einsum("ni,oi->no", s.conv(x).relu().mean((2, 3)), s.linear.weight),
    "einsum of channels": lambda s, x: torch.einsum(
        "nchw, cd -> ndhw", s.conv(x).relu(), s.linear.weight.t()
    ),
    "einsum, constant first": lambda s, x: torch.einsum(
        "oc,nchw->nhow", s.linear.weight, s.conv(x).relu()[:, :, :5]
    ),
    "einsum with an ellipsis": lambda s, x: torch.einsum(
        "...i,oi->...o", [s.conv(x).relu().permute(0, 2, 3, 1), s.linear.weight]
    ),
    "position parameter": lambda s, x: F.relu(s.conv(x) + POSITIONS) * POSITIONS[:1] + s.conv(x),
    "position parameter first": lambda s, x: (POSITIONS[None] - F.relu(s.conv(x))).mul(POSITIONS.view(6, 6)),
    "constant that widens": lambda s, x: F.relu(s.conv(x)).mean((2, 3), keepdim=True) + POSITIONS,
    "patch merging": lambda s, x: _patch_merging_pad(F.relu(s.conv(x)).permute(0, 2, 3, 1)),
    "patch merging of odd sizes": lambda s, x: _patch_merging_pad(
        F.relu(s.conv(x))[:, :, 1:, 1:].permute(0, 2, 3, 1)
    ),
    "F.conv_transpose2d": lambda s, x: F.conv_transpose2d(F.relu(s.conv(x)), s.second.weight, None, 2, 1, 1),
    "grouped F.conv_transpose2d": lambda s, x: F.conv_transpose2d(
        F.relu(s.conv(x)),
        s.second.weight[:, :2],
        s.constant.repeat(2, 1, 1).view(-1)[:4],
        groups=2,
        dilation=2,
    ),
}

Case = tuple[nn.Module, tuple[int, ...]]
MODULES: dict[str, Case] = {
    "ZeroPad1d": (nn.ZeroPad1d((1, 2)), (3, 6)),
    "ZeroPad2d": (nn.ZeroPad2d((1, 2, 0, 3)), (3, 5, 6)),
    "ZeroPad3d": (nn.ZeroPad3d(1), (2, 3, 4, 5)),
    "ConstantPad1d": (nn.ConstantPad1d(2, 1.5), (3, 6)),
    "ConstantPad2d": (nn.ConstantPad2d((1, 0, 2, 0), -1.5), (3, 5, 6)),
    "ConstantPad3d": (nn.ConstantPad3d(1, 0.5), (2, 3, 4, 5)),
    "ReflectionPad1d": (nn.ReflectionPad1d(2), (3, 6)),
    "ReflectionPad2d": (nn.ReflectionPad2d((1, 2, 0, 3)), (3, 5, 6)),
    "ReflectionPad3d": (nn.ReflectionPad3d(1), (2, 3, 4, 5)),
    "ReplicationPad1d": (nn.ReplicationPad1d((0, 3)), (3, 6)),
    "ReplicationPad2d": (nn.ReplicationPad2d(2), (3, 5, 6)),
    "ReplicationPad3d": (nn.ReplicationPad3d(1), (2, 3, 4, 5)),
    "CircularPad1d": (nn.CircularPad1d((2, 1)), (3, 6)),
    "CircularPad2d": (nn.CircularPad2d((1, 2, 0, 3)), (3, 5, 6)),
    "CircularPad3d": (nn.CircularPad3d(1), (2, 3, 4, 5)),
    "ChannelShuffle": (nn.ChannelShuffle(3), (6, 4, 4)),
    "PixelShuffle": (nn.PixelShuffle(2), (8, 3, 3)),
    "PixelUnshuffle": (nn.PixelUnshuffle(2), (2, 4, 6)),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d(scale_factor=2), (2, 4, 6)),
    "UpsamplingBilinear2d": (nn.UpsamplingBilinear2d(size=(5, 7)), (2, 4, 6)),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (4, 5)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, (3, 2), 2, padding=1, groups=2, dilation=2), (4, 5, 6)),
    "ConvTranspose3d": (nn.ConvTranspose3d(2, 3, 2, bias=False), (2, 3, 4, 3)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_operator_computes_the_same(form: str) -> None:
    ann = net(FORMS[form])
    network = normalise(ann, images())
    assert len(network.sites) >= 1
    assert_equal(ann, network, images(5))


def test_parts_are_joined_as_they_come() -> None:
    ann = net(lambda s, x: torch.cat(F.relu(s.conv(x)).chunk(2, dim=1)[::-1], 1))
    if TORCH >= (2, 9):
        assert_equal(ann, normalise(ann, images()), images(5))
        return
    with pytest.raises(ConversionError, match=r"Before PyTorch 2.9 .* unpack them, as in a, b = x.chunk\(2"):
        normalise(ann, images())


@pytest.mark.parametrize("name", MODULES)
def test_every_module_computes_the_same(name: str) -> None:
    module, shape = MODULES[name]
    ann = nn.Sequential(nn.ReLU(), module).eval()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    network = normalise(ann, x)
    assert next(node.op for node in network.nodes.values()) == ACTIVATION
    assert len(network.nodes) == 2
    rebuilt = StageNetwork.from_spec(network.spec())
    rebuilt.load_state_dict(network.state_dict())
    assert_equal(ann, rebuilt.eval(), x.flip(0)[:2])


def check_affine(network: StageNetwork, x: Tensor) -> None:
    """The mean of what an operator makes of two inputs is what it makes of their mean; images don't mix."""
    values = network.run_operators(network.nodes, {INPUT: x})
    generator = torch.Generator().manual_seed(0)
    for name, node in network.nodes.items():
        operator = network.operators[name]
        assert node.op in OPERATORS
        shapes = [values[key].shape for key in node.inputs]
        a, b = ([torch.randn(shape, generator=generator).double() for shape in shapes] for _ in range(2))
        both = operator(*(torch.cat(pair) for pair in zip(a, b, strict=True)))
        assert torch.allclose(both, torch.cat([operator(*a), operator(*b)]), rtol=0, atol=1e-12), node.op
        if traits_of(operator).linear:
            mean = operator(*((p + q) / 2 for p, q in zip(a, b, strict=True)))
            assert torch.allclose(mean, (operator(*a) + operator(*b)) / 2, rtol=0, atol=1e-10), node.op


@pytest.mark.parametrize("form", [*USUAL, *FORMS])
def test_every_operator_is_affine_and_keeps_images_apart(form: str) -> None:
    network = normalise(net((USUAL | FORMS)[form]), images())
    check_affine(network.double(), images(2).double())


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_affine_and_keeps_images_apart(name: str) -> None:
    module, shape = MODULES[name]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    check_affine(normalise(nn.Sequential(nn.ReLU(), module), x).double(), x.double())


@pytest.mark.parametrize("form", FORMS)
def test_unit_spikes_pass_every_operator(form: str) -> None:
    x = images(2).double()
    snn = convert(net(FORMS[form]).double(), x, 4)
    assert torch.allclose(rescale_to_unit_spikes(snn)(x), snn(x), rtol=1e-9, atol=1e-12)


def test_a_transposed_convolution_folds_by_hand() -> None:
    conv = nn.ConvTranspose2d(2, 2, 1, groups=2)
    conv.weight.data = torch.tensor([2.0, -4.0]).view(2, 1, 1, 1)
    conv.bias.data = torch.tensor([3.0, 1.0])
    norm = nn.BatchNorm2d(2, eps=0.0).eval()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 1.0]))
    norm.weight.data, norm.bias.data = torch.tensor([3.0, 0.5]), torch.tensor([0.25, 4.0])
    fold_into(conv, norm)
    # W γ/σ; β + (b - μ) γ/σ
    assert conv.weight.flatten().tolist() == [3.0, -2.0]
    assert conv.bias.tolist() == [0.25 + (3.0 - 1.0) * 1.5, 4.0 + (1.0 + 2.0) * 0.5]


class Decoder(nn.Module):
    """Transposed convolutions between sites, with batch norm in front, behind, and nowhere."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up1, self.norm1 = nn.ConvTranspose2d(4, 6, 2, 2, groups=groups, bias=False), nn.BatchNorm2d(6)
        self.up2, self.norm2 = nn.ConvTranspose2d(6, 4, 3, padding=1, groups=groups), nn.BatchNorm2d(4)
        self.up3 = nn.ConvTranspose2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.up1(F.relu(self.stem(x)))))
        return self.up3(F.relu(self.norm2(F.relu(self.up2(x)))))


@pytest.mark.parametrize("groups", [1, 2])
def test_networks_with_transposed_convolutions_convert(groups: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ann = randomise_batch_norms(Decoder(groups)).eval().double()
    x = images(3).double()
    network = normalise(ann, x)
    assert [node.op for node in network.nodes.values()].count("Affine") == 1
    assert_equal(ann, network, images(4).double())
    snn = convert(ann, x, 8)
    unit = rescale_to_unit_spikes(snn)
    assert torch.allclose(unit(x), snn(x), rtol=1e-9, atol=1e-12)
    assert all(set(train.unique().tolist()) <= {0.0, 1.0} for train in unit.spikes(x).values())
    finer = convert(ann, x, 256)
    assert ((finer(x) - ann(x)).norm() / ann(x).norm()).item() < 0.02
