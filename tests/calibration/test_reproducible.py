"""Same images, same settings, same seed: the same SNN bit for bit, whatever else goes on."""

import functools
import random

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import ACP, LCP, Baseline, Weights, calibrate, convert
from tests.calibration.support import largest_difference, parameters, same_bits
from tests.toys import MaxPooled, PlainConv, Residual, inputs, toy

QUICK = Weights(6, step_size=0.01, batch_size=8)
PIPELINES = [Baseline(4), LCP(4), ACP(4, weights=QUICK)]


@functools.cache
def of_one_batch(pipeline):
    return calibrate(toy(Residual), [inputs(Residual, 40)], pipeline, progress=False)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("sizes", [[1] * 40, [7, 7, 7, 7, 7, 5], [39, 1], [3, 37]])
def test_the_loaders_batches_do_not_matter(pipeline, sizes):
    two = calibrate(toy(Residual), inputs(Residual, 40).split(sizes), pipeline, progress=False)
    assert same_bits(of_one_batch(pipeline), two)


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: type(p).__name__)
def test_the_global_generators_do_not_matter(pipeline):
    images, models = inputs(MaxPooled, 20), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        random.seed(seed)
        models.append(calibrate(toy(MaxPooled), [images], pipeline, progress=False))
    assert same_bits(*models)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda p: type(p).__name__)
def test_the_global_generator_is_not_disturbed(pipeline, shuffle):
    loader = DataLoader(TensorDataset(inputs(PlainConv, 20)), batch_size=8, shuffle=shuffle)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    calibrate(toy(PlainConv), loader, pipeline, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_convert_does_not_disturb_the_global_generator():
    ann, images = toy(PlainConv), inputs(PlainConv)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = convert(ann, images, 4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert same_bits(one, convert(ann, images, 4))


def test_grad_mode_is_left_as_it_was():
    ann, images = toy(PlainConv), inputs(PlainConv, 16)
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            model = calibrate(ann, [images], ACP(4, weights=QUICK), progress=False)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        assert not any(value.is_inference() for value in model.state_dict().values())


def test_a_shuffling_loader_gives_the_same_images_in_every_run():
    loader = DataLoader(TensorDataset(inputs(PlainConv, 20)), batch_size=8, shuffle=True)
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(calibrate(toy(PlainConv), loader, ACP(4, weights=QUICK), progress=False))
    assert same_bits(*models)


def test_the_seed_decides_the_mini_batches():
    images = inputs(Residual, 40)
    zero, again, one = (
        calibrate(toy(Residual), [images], ACP(4, weights=QUICK, seed=seed), progress=False)
        for seed in (0, 0, 1)
    )
    assert same_bits(zero, again)
    assert largest_difference(parameters(zero), parameters(one)) > 1e-6


def test_lcp_has_nothing_random():
    images = inputs(Residual, 20)
    zero, one = (calibrate(toy(Residual), [images], LCP(4, seed=seed), progress=False) for seed in (0, 1))
    assert same_bits(zero, one)


def test_labels_and_kinds_of_loaders_do_not_matter():
    images = inputs(PlainConv, 16)
    pairs = DataLoader(TensorDataset(images, torch.zeros(16)), batch_size=16)
    expected = calibrate(toy(PlainConv), [images], LCP(4), progress=False)
    for loader in (pairs, [(images, None, "more")], [[images]], iter([images]), (x for x in images.split(8))):
        assert same_bits(expected, calibrate(toy(PlainConv), loader, LCP(4), progress=False))
