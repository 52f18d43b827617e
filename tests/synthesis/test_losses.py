import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snn_lightning.synthesis import losses


def test_moments_are_those_of_all_images_and_places_of_a_channel() -> None:
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[1.0, 3.0]], [[4.0, 4.0]]]])  # [2, 2, 1, 2]
    mean, variance = losses.moments([x])
    assert mean.tolist() == [2, 2]
    assert variance.tolist() == [1, 4]


def test_moments_of_several_calls_are_those_of_all_together() -> None:
    x = torch.randn(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.moments([x[:2], x[2:, :, :1], x[2:, :, 1:]]), losses.moments([x]))


def test_channels_may_come_last() -> None:
    mean, _ = losses.moments([torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])], dim=-1)
    assert mean.tolist() == [2, 5]


def test_matching_is_the_squared_error_in_units_of_the_layers_deviation() -> None:
    mean, deviation = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    other = losses.matching(mean + torch.tensor([2.0, 0.0]), (deviation + 1).square(), mean, deviation**2)
    assert other.item() == pytest.approx((4 + 1 + 1) / (4 + 16), rel=1e-4)
    assert losses.matching(mean, deviation**2, mean, deviation**2).item() == 0


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_matching_knows_no_scale_and_no_origin(scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, wanted = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    variance, wanted_variance = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    scaled = losses.matching(
        scale * mean + shift, scale**2 * variance, scale * wanted + shift, scale**2 * wanted_variance
    )
    torch.testing.assert_close(scaled, losses.matching(mean, variance, wanted, wanted_variance))


def test_a_layer_that_never_varied_gives_no_nan() -> None:
    variance = torch.zeros(3, requires_grad=True)
    losses.matching(torch.zeros(3), variance, torch.zeros(3), torch.zeros(3)).backward()
    assert variance.grad is not None
    assert variance.grad.isfinite().all()


def test_total_variation_of_a_step_and_of_stripes() -> None:
    flat = torch.full((1, 1, 4, 4), 0.3)
    assert losses.total_variation(flat).item() == 0
    stripes = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 1, 4, 4)
    assert losses.total_variation(stripes).item() == 1
    assert losses.total_variation(stripes.mT).item() == 1
    assert losses.total_variation(torch.ones(1, 1, 1, 1)).item() == 0


def test_similarity_of_two_kinds_of_images_is_one_and_of_a_simplex_the_least() -> None:
    kinds = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(3, 1)
    assert losses.similarity(kinds).item() == pytest.approx(1)
    assert losses.similarity(torch.eye(4) + 7).item() == pytest.approx(1 / 9)  # cosines of -1/3
    assert losses.similarity(torch.ones(1, 4)).item() == 0


def test_a_box_of_each_image_comes_from_another_one_at_the_same_place() -> None:
    places = torch.arange(64.0).reshape(1, 1, 8, 8)
    images = places + 100 * torch.arange(5.0)[:, None, None, None]
    result = losses.mixed(images, torch.Generator().manual_seed(1))
    assert torch.equal(result % 100, places.expand_as(result))
    owners = (result // 100).long()
    for i, owner in enumerate(owners[:, 0]):
        inside = owner != i
        assert len(owner[inside].unique()) == 1
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert 2 <= len(rows) <= 6
        assert 2 <= len(columns) <= 6
    assert torch.equal(losses.mixed(images[:1], torch.Generator()), images[:1])
