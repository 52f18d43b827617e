import torch

from snn_lightning.data.augment import Chain, Cutout, PerImage, PrivateRandomness, RandomCrop, RandomFlip


def test_crop_is_a_window_of_the_padded_image_and_differs_from_image_to_image() -> None:
    image = torch.arange(1.0, 17).reshape(1, 1, 4, 4)
    torch.manual_seed(0)
    crops = RandomCrop(1)(image.repeat(200, 1, 1, 1))
    padded = torch.zeros(6, 6)
    padded[1:5, 1:5] = image[0, 0]
    windows = {tuple(padded[i : i + 4, j : j + 4].flatten().tolist()) for i in range(3) for j in range(3)}
    assert {tuple(c.flatten().tolist()) for c in crops} == windows


def test_crop_moves_all_channels_alike() -> None:
    images = torch.rand(20, 1, 8, 8).repeat(1, 3, 1, 1)
    crops = RandomCrop(2)(images)
    assert torch.equal(crops[:, 0], crops[:, 2])


def test_flip_mirrors_about_half() -> None:
    images = torch.rand(400, 2, 3, 5)
    torch.manual_seed(0)
    flipped = RandomFlip()(images)
    mirrored = (flipped == images.flip(3)).all((1, 2, 3))
    assert (mirrored | (flipped == images).all((1, 2, 3))).all()
    assert 150 < mirrored.sum() < 250


def test_cutout_sets_one_square_to_the_fill() -> None:
    images = torch.full((300, 3, 32, 32), 200, dtype=torch.uint8)
    torch.manual_seed(0)
    cut = Cutout(8, [1.0, 2.0, 3.0])(images)
    assert cut.dtype == torch.uint8
    area = (cut[:, 0] == 1).sum((1, 2))
    assert area.max() == 64
    assert 16 <= area.min() < 64  # holes over the border are smaller, the smallest a quarter
    assert torch.equal(cut[:, 0] == 1, cut[:, 2] == 3)
    assert len({tuple(c.flatten().tolist()) for c in cut[:, 0]}) > 200


def test_per_image_calls_the_transform_once_an_image() -> None:
    seen = []
    PerImage(lambda image: seen.append(image.shape) or image)(torch.zeros(3, 1, 2, 2))
    assert seen == [(1, 2, 2)] * 3


def test_chain_keeps_the_order() -> None:
    assert Chain(lambda x: x + 1, lambda x: x * 2)(torch.ones(1)).item() == 4


def test_private_randomness_continues_its_stream_and_restores_the_global_one() -> None:
    def draws(noise: int) -> list[float]:
        private = PrivateRandomness(5)
        values = []
        for _ in range(2):
            torch.manual_seed(noise)
            before = torch.get_rng_state()
            with private.scope():
                values.append(torch.rand(()).item())
            assert torch.equal(torch.get_rng_state(), before)
        return values

    first = draws(1)
    assert first == draws(2)
    assert first[0] != first[1]
