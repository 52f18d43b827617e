"""Every family of torchvision's classifiers: converges to its ANN, and is simulated alike in every way."""

import functools

import pytest
import torch
from torch import Tensor

from snn_lightning import convert, rescale_to_unit_spikes
from tests.families import ALIKE, EVERY, FAMILIES, family, images

CASES = [
    pytest.param(name, seed, marks=[pytest.mark.slow] if seed or name in ALIKE else [])
    for name in FAMILIES
    for seed in range(4)
]


@functools.cache
def errors(name: str, seed: int) -> tuple[float, float]:
    """Return the relative error of the output after 512 and after 1024 time steps.

    Neither the largest activation as threshold nor half of it as initial potential depends on T, so that one
    simulation gives both.
    """
    ann, x = family(name, seed), images(name, 4, seed)
    with torch.no_grad():
        expected = ann(x)
        means = convert(ann, x, 1024).running_mean(x)
    first, second = (((means[t - 1] - expected).norm() / expected.norm()).item() for t in (512, 1024))
    return first, second


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_output_error_is_small_after_1024_steps(name: str, seed: int) -> None:
    assert errors(name, seed)[1] < (0.05 if FAMILIES[name].max_pooled else 0.02)


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_output_error_falls_as_one_over_t(name: str, seed: int) -> None:
    first, second = errors(name, seed)
    assert 1.4 < first / second < 3


@pytest.mark.parametrize("name", EVERY)
def test_every_way_to_simulate_gives_the_same_spikes(name: str) -> None:
    ann, x = family(name).double(), images(name, 2).double()
    snn = convert(ann, x, 4)
    with torch.no_grad():
        batched, whole = snn.spikes(x), snn(x)
        state, readouts = snn.initial_state(x), []
        for _ in range(4):
            readout, state = snn.step(state)
            readouts.append(readout)
        torch.testing.assert_close(torch.stack(readouts).mean(0), whole, rtol=1e-9, atol=1e-12)

        state = snn.initial_state(x)
        records: list[dict[str, Tensor]] = [{} for _ in range(4)]
        for record in records:
            snn._advance(state, 1, record)
        assert batched.keys() == snn.neurons.keys()
        for site, train in batched.items():
            assert torch.equal(torch.cat([record[site] for record in records]), train)

        unit = rescale_to_unit_spikes(snn)
        assert all(((train == 0) | (train == 1)).all() for train in unit.spikes(x).values())
        torch.testing.assert_close(unit(x), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_chunks_of_images_and_of_time_change_nothing(name: str) -> None:
    ann, x = family(name).double(), images(name, 17).double()
    snn = convert(ann, x, 4)
    with torch.no_grad():
        snn.rows = 17 * 4
        whole = snn(x)
        snn.rows = 1
        torch.testing.assert_close(snn(x), whole, rtol=1e-9, atol=1e-12)
