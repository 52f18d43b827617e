"""A calibration set grows by augmented copies of its images."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_lightning import ACP, LCP, Augmentation, Bias, NeuronSearch, Potential, calibrate
from snn_lightning.calibration.api import run_calibration
from snn_lightning.calibration.augmentation import FEW, SMALL, Copies, decide
from snn_lightning.calibration.walk.communicator import Communicator
from snn_lightning.calibration.walk.observer import Observer
from snn_lightning.errors import CalibrationError, SettingsError
from tests.calibration.support import Custom, Probe, in_two_threads, largest_difference, parameters, same_bits
from tests.toys import Residual, Vector, inputs, toy

NOTHING = Augmentation(flip=False, shift=0, images=20)
ALL = Augmentation(shift=0.2, crop=0.4, mix=0.7, colour=0.5, images=20)
SETTINGS = st.builds(
    Augmentation,
    flip=st.booleans(),
    shift=st.floats(0, 0.5),
    crop=st.none() | st.floats(0.1, 1),
    mix=st.floats(0, 1),
    colour=st.floats(0, 0.9),
    images=st.integers(1, 30),
)
SIZES = st.tuples(*(st.integers(1, high) for high in (6, 4, 9, 9)))


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def copies_of(settings: Augmentation, images: torch.Tensor) -> Copies:
    return Copies(settings, [image.shape for image in images], images.__getitem__)


@given(SETTINGS, SIZES, st.integers(0, 5))
def test_copies_are_images_of_the_same_size_from_a_private_stream(
    settings: Augmentation, shape: tuple[int, ...], seed: int
) -> None:
    images, before = pictures(*shape), torch.get_rng_state()
    kept = images.clone()
    copies = copies_of(settings, images)
    one, two = (copies.batches(seed) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, kept)
    assert shape[0] + sum(map(len, one)) == len(copies.origins) == max(shape[0], settings.images)
    for batch, again in zip(one, two, strict=True):
        assert batch.shape[1:] == images.shape[1:]
        assert torch.isfinite(batch).all()
        assert torch.equal(batch, again)


def test_with_everything_off_they_are_the_originals_in_turn() -> None:
    images = pictures(7, 3, 5, 5)
    copies = copies_of(NOTHING, images)
    assert copies.origins == [*range(7), *range(7), *range(6)]
    (made,) = copies.batches(0)
    assert torch.equal(made, images[copies.origins[7:]])


def test_flips_mirror_about_half_of_the_copies() -> None:
    images = pictures(2, 1, 4, 4)
    copies = copies_of(Augmentation(shift=0, images=202), images)
    made, originals = torch.cat(copies.batches(3)), images[copies.origins[2:]]
    same, mirrored = ((made == x).all((1, 2, 3)) for x in (originals, originals.flip(3)))
    assert (same | mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_shifts_are_of_whole_pixels_up_to_a_part_of_the_side() -> None:
    image = torch.arange(40.0).view(1, 1, 4, 10)
    made = torch.cat(copies_of(Augmentation(flip=False, shift=0.25, images=400), image).batches(0))
    # Rows move by at most one pixel, columns by two; corners show what lies behind them, mirrored.
    found = {(int(copy[0, 1, 3]) // 10 - 1, int(copy[0, 1, 3]) % 10 - 3) for copy in made}
    assert found == {(i, j) for i in (-1, 0, 1) for j in (-2, -1, 0, 1, 2)}
    one_up = next(copy for copy in made if copy[0, 1, 3] == 3)
    assert one_up[0, 0, 3] == 13


def test_a_symmetric_image_is_flipped_into_itself() -> None:
    image = pictures(1, 3, 6, 6)
    symmetric = image + image.flip(3)
    made = torch.cat(copies_of(dataclasses.replace(NOTHING, flip=True), symmetric).batches(0))
    assert (made == symmetric).all()


def test_crops_enlarge_windows_of_at_least_their_share() -> None:
    side = torch.linspace(-1, 1, 32)
    ramp = side.expand(1, 1, 32, 32)
    made = torch.cat(copies_of(Augmentation(flip=False, shift=0, crop=0.25, images=300), ramp).batches(0))
    slopes = (made[:, 0, 16, 20] - made[:, 0, 16, 12]) / (side[20] - side[12])
    assert (slopes > 0.499).all()
    assert (slopes < 1.001).all()
    # The area is drawn evenly, from a quarter to the whole.
    assert slopes.square().mean().item() == pytest.approx(0.625, abs=0.04)


def test_mixing_blends_another_image_with_at_most_half_of_the_weight() -> None:
    images = torch.tensor([0.0, 1, 100]).view(3, 1, 1, 1)
    settings = dataclasses.replace(NOTHING, mix=0.5, images=303)
    made = torch.cat(copies_of(settings, images).batches(0)).flatten()
    of_the_first = made[torch.arange(300) % 3 == 0]
    blended = of_the_first != 0
    assert 30 < blended.sum() < 70
    assert of_the_first.max() <= 50
    # Both others are met.
    assert ((of_the_first > 0) & (of_the_first <= 0.5)).any()
    assert (of_the_first > 1).any()
    alone = copies_of(settings, images[2:]).batches(0)
    assert (torch.cat(alone) == 100).all()


def test_only_images_of_one_size_are_blended() -> None:
    images = [torch.full((1, 2 + i % 2, 3), float(i % 2)) for i in range(6)]
    settings = dataclasses.replace(NOTHING, mix=1.0)
    copies = Copies(settings, [image.shape for image in images], images.__getitem__)
    made = [image for batch in copies.batches(0) for image in batch]
    assert [tuple(image.shape) for image in made] == [(1, 2 + i % 2, 3) for i in copies.origins[6:]]
    assert all((image == i % 2).all() for image, i in zip(made, copies.origins[6:], strict=True))


def test_colours_change_where_there_are_three_channels() -> None:
    colour = dataclasses.replace(NOTHING, colour=0.3)
    for channels in (1, 2, 4):
        images = pictures(4, channels, 3, 3)
        copies = copies_of(colour, images)
        assert torch.equal(torch.cat(copies.batches(0)), images[copies.origins[4:]])
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    image[:, :, 0, 0], image[:, :, 0, 1] = 0, 1
    made = torch.cat(copies_of(dataclasses.replace(colour, images=300), image).batches(0))
    spread = made.amax((2, 3)) - made.amin((2, 3))
    assert 0.7**3 < spread.min() < 0.6
    assert 1.7 < spread.max() < 1.3**3
    assert (spread.std(1) > 0.01).any()


def test_what_one_setting_draws_does_not_depend_on_the_others() -> None:
    images = pictures(4, 3, 8, 8)
    flips = []
    for settings in (Augmentation(shift=0, images=40), Augmentation(shift=0, crop=0.5, images=40)):
        ramp = images + 10 * torch.linspace(-1, 1, 8)
        made = torch.cat(copies_of(settings, ramp).batches(2))
        flips.append((made[..., -1].mean((1, 2)) < made[..., 0].mean((1, 2))).tolist())
    assert flips[0] == flips[1]
    assert any(flips[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1}, "augment.flip must be true or false, got 1"),
        ({"shift": 0.6}, r"augment.shift must be in \[0, 0.5\], got 0.6"),
        ({"crop": 0}, r"augment.crop must be in \(0, 1\], got 0"),
        ({"mix": None}, r"augment.mix must be in \[0, 1\], got None"),
        ({"colour": 1}, r"augment.colour must be in \[0, 1\), got 1"),
        ({"images": 0}, "augment.images must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Augmentation(**settings)


@pytest.mark.parametrize("value", ["on", True, 0.1, Bias()])
def test_a_pipeline_takes_augmentations_only(value: object) -> None:
    with pytest.raises(
        SettingsError, match=r"pipeline\.augment must be an Augmentation, 'auto' or None \(null\)"
    ):
        LCP(4, augment=value)


def test_auto_is_for_few_images_of_one_or_three_channels() -> None:
    image = torch.zeros(2, 3, 4, 4)
    for batches in ([image], [image[:, :1]], [image, image[..., :2]], []):
        assert decide("auto", FEW - 1, batches) == Augmentation()
        # Of more images the distillation alone takes copies: the walk gets no more of them.
        assert decide("auto", SMALL - 1, batches) == Augmentation(images=SMALL - 1)
    assert decide("auto", SMALL, [image]) is None
    for other in (image.flatten(1), image[:, :2], image[None], image.long(), image.repeat(1, 8, 1, 1)):
        assert decide("auto", 2, [image, other]) is None
    for batches in ([image], [image[:, :2]], [image.double()]):
        assert decide(ALL, SMALL, batches) == ALL
        assert decide(None, 2, batches) is None


@pytest.mark.parametrize(
    "odd", [torch.zeros(2, 5), torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 3, 4, 4).int()]
)
def test_an_augmentation_that_is_asked_for_refuses_what_are_no_images(odd: torch.Tensor) -> None:
    message = r"augment is of images \[N, C, H, W\] .* has a batch \[2, .*set augment=None \(augment=null\)"
    with pytest.raises(CalibrationError, match=message):
        decide(ALL, 4, [torch.zeros(2, 3, 4, 4), odd])


def test_features_are_left_alone_by_auto_and_refused_otherwise() -> None:
    ann, batches = toy(Vector), [inputs(Vector, 16)]
    plain = calibrate(ann, batches, LCP(4), progress=False)
    auto = calibrate(ann, batches, LCP(4, augment="auto"), progress=False)
    assert same_bits(plain, auto)
    assert auto.records[0]["images"] == 16
    with pytest.raises(CalibrationError, match=r"augment is of images .* torch.float32: set augment=None"):
        calibrate(ann, batches, LCP(4, augment=ALL), progress=False)


def test_the_walk_sees_the_originals_first_and_where_copies_come_from() -> None:
    images, seen = inputs(Residual, 16), []
    pipeline = Custom(4, augment=ALL, first=Probe(seen.append))
    model = calibrate(toy(Residual), [images[:10], images[10:]], pipeline, progress=False)
    context = seen[0]
    assert (context.total, list(context.origins)) == (20, [*range(16), *range(4)])
    assert sorted(torch.cat(context.indices).tolist()) == list(range(20))
    assert {record["images"] for record in model.records} == {16}
    seen.clear()
    calibrate(toy(Residual), [images], Custom(4, first=Probe(seen.append)), progress=False)
    assert list(seen[0].origins) == list(range(16))


def test_the_copies_are_what_the_walk_calibrates_on() -> None:
    images = inputs(Residual, 16)
    pipeline = LCP(4, augment=ALL, seed=5)
    augmented = calibrate(toy(Residual), [images], pipeline, progress=False)
    copies = copies_of(ALL, images).batches(5)
    by_hand = calibrate(toy(Residual), [images, *copies], LCP(4), progress=False)
    assert same_bits(augmented, by_hand)
    other = calibrate(toy(Residual), [images], dataclasses.replace(pipeline, seed=6), progress=False)
    assert not same_bits(augmented, other)


def test_steps_may_use_more_images_than_were_given() -> None:
    with pytest.raises(CalibrationError, match="'search' wants 20 images and the calibration set has 16"):
        LCP(4, search=NeuronSearch(images=20)).check_images(16)
    LCP(4, augment=ALL, search=NeuronSearch(images=20)).check_images(16)
    LCP(4, augment="auto", search=NeuronSearch(images=Augmentation().images)).check_images(16)
    with pytest.raises(CalibrationError, match="'search' wants 21 images and the calibration set has 20"):
        LCP(4, augment=ALL, search=NeuronSearch(images=21)).check_images(16)


def test_two_processes_calibrate_on_the_same_images_as_one() -> None:
    pipeline = ACP(4, weights=None, potential=Potential(), augment=ALL)
    one = calibrate(toy(Residual), [inputs(Residual, 13)], pipeline, progress=False)
    first, second = in_two_threads(toy(Residual), [inputs(Residual, 13)], pipeline)
    assert same_bits(first, second)
    assert largest_difference(parameters(one), parameters(first)) < 1e-5


def test_a_killed_run_with_another_augmentation_is_another_one(tmp_path) -> None:
    class Stop(Observer):
        def stage_started(self, index, total, name, resumed):
            resumes.append(resumed)
            if stop and index == 2:
                raise KeyboardInterrupt

    def attempt(augment):
        images, pipeline = [inputs(Residual, 12)], LCP(4, augment=augment)
        return run_calibration(toy(Residual), images, pipeline, Communicator(), Stop(), tmp_path)[0]

    resumes, stop = [], True
    with pytest.raises(KeyboardInterrupt):
        attempt("auto")
    stop = False
    resumes.clear()
    attempt(ALL)
    assert not any(resumes)
    resumes.clear()
    resumed = attempt(Augmentation())
    assert resumes[:3] == [True, True, False]
    whole = calibrate(toy(Residual), [inputs(Residual, 12)], LCP(4, augment=Augmentation()), progress=False)
    assert same_bits(resumed, whole)


def test_it_belongs_to_the_pipeline_and_not_to_the_conversion() -> None:
    pipeline = LCP(4, augment=ALL)
    assert "augment" not in pipeline.spec()
    model = calibrate(toy(Residual), [inputs(Residual, 8)], pipeline, progress=False)
    assert model.conversion == LCP(4).conversion


def test_images_of_several_sizes() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    sizes = [torch.randn(5, 3, size, size) for size in (8, 10)]
    model = calibrate(nn.Sequential(*layers).eval(), sizes, LCP(4, augment=ALL), progress=False)
    assert {record["images"] for record in model.records} == {10}
