"""Images are moved and recoloured each by its own numbers."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from snn_lightning.transforms import mirrored, recoloured, windows, zoomed

SIZES = st.tuples(*(st.integers(1, high) for high in (4, 3, 7, 7)))


def images(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@given(SIZES)
def test_mirrored_twice_is_the_image_and_of_a_symmetric_one_once(shape: tuple[int, ...]) -> None:
    x, which = images(shape), torch.arange(shape[0]) % 2 == 0
    assert torch.equal(mirrored(mirrored(x, which), which), x)
    assert torch.equal(mirrored(x, which)[1::2], x[1::2])
    symmetric = x + x.flip(3)
    assert torch.equal(mirrored(symmetric, which), symmetric)


@given(SIZES, st.data())
def test_a_window_is_a_slice_of_its_own_image(shape: tuple[int, ...], data: st.DataObject) -> None:
    x, (n, _, height, width) = images(shape), shape
    rows, columns = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = (
        torch.tensor(data.draw(st.lists(st.integers(0, most), min_size=n, max_size=n)))
        for most in (height - rows, width - columns)
    )
    cut = windows(x, top, left, rows, columns)
    for image, i, j, window in zip(x, top, left, cut, strict=True):
        assert torch.equal(window, image[:, i : i + rows, j : j + columns])


@given(SIZES)
def test_the_whole_image_zoomed_is_the_image(shape: tuple[int, ...]) -> None:
    x, any_place = images(shape), torch.linspace(0, 1, shape[0])
    one = torch.ones(shape[0])
    torch.testing.assert_close(zoomed(x, one, any_place, any_place.flip(0)), x, atol=1e-4, rtol=0)


def test_a_zoomed_window_is_what_interpolation_makes_of_it_inside() -> None:
    x, half = images((2, 3, 8, 12)), torch.full((2,), 0.5)
    got = zoomed(x, half, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5]))
    for image, (i, j), zoom in zip(x, ((0, 6), (4, 3)), got, strict=True):
        wanted = interpolate(image[None, :, i : i + 4, j : j + 6], scale_factor=2, mode="bilinear")[0]
        # At the window's border it sees what is behind it, which a window cut out does not have.
        torch.testing.assert_close(zoom[:, 1:-1, 1:-1], wanted[:, 1:-1, 1:-1], atol=1e-5, rtol=0)


@given(SIZES)
def test_no_gain_and_no_contrast_leave_the_colours(shape: tuple[int, ...]) -> None:
    x = images(shape)
    gain, contrast = torch.ones(shape[:2]), torch.ones(shape[0])
    torch.testing.assert_close(recoloured(x, gain, contrast), x, atol=1e-5, rtol=0)


@given(st.floats(0.5, 2), st.floats(-3, 3), st.floats(0.1, 4))
def test_colours_change_alike_whatever_the_normalisation(gain: float, mean: float, std: float) -> None:
    """Of an image with black in every channel the gain is that of the pixels themselves."""
    pixels = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels[:, :, 0, 0] = 0
    got = recoloured((pixels - mean) / std, torch.full((1, 3), gain), torch.ones(1))
    torch.testing.assert_close(got, (gain * pixels - mean) / std, atol=1e-4, rtol=1e-4)
