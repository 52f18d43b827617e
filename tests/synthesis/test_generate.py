import pytest
import torch
from torch import Tensor, nn

from snn_lightning import Synthesis, capture_statistics
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.synthesis import Source, Synthesiser, estimate
from snn_lightning.synthesis.generate import noise
from tests.synthesis.support import Plain, experienced, pictures
from tests.toys import MaxPooled, toy

QUICK = Synthesis(iterations=4)
ZERO, ONE = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


def synthesiser(settings: Synthesis = QUICK, *nets: nn.Module, size: int = 8) -> Synthesiser:
    sources = [Source(net) for net in nets or (experienced(),)]
    return Synthesiser(sources, settings, (3, size, size), ZERO, ONE)


def distance(source: Source, pixels: Tensor) -> float:
    return source(pixels.float() / 255)[0].item()


def test_images_come_nearer_to_what_the_batch_norms_saw() -> None:
    made = synthesiser(Synthesis(iterations=150, total_variation=0.1))
    (source,) = made.sources
    generator = torch.Generator().manual_seed(0)
    random = torch.randint(256, (32, 3, 8, 8), generator=generator)
    start = 255 * noise((32, 3, 8, 8), generator)
    reached = distance(source, made.generate(32, 0))
    assert reached < 0.02
    assert reached < distance(source, random) / 20
    assert reached < distance(source, start) / 5


def test_captured_statistics_are_matched_without_batch_norm() -> None:
    source = Source(Plain(), capture_statistics(Plain(), [pictures(64, 1)]))
    made = Synthesiser([source], Synthesis(iterations=100), (1, 8, 8), ZERO[:1], ONE[:1])
    random = torch.randint(256, (32, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    assert distance(source, made.generate(32, 0)) < distance(source, random) / 20


def test_images_of_two_networks_match_both() -> None:
    first, second = experienced(), experienced()
    second.features[1].running_mean += 0.3 * second.features[1].running_var.sqrt()
    settings = Synthesis(iterations=60)
    both = synthesiser(settings, first, second)
    alone = synthesiser(settings, first).generate(16, 0)
    assert distance(both.sources[1], both.generate(16, 0)) < distance(both.sources[1], alone)


def test_the_normalisation_in_front_of_the_network_is_undone() -> None:
    source = Source(nn.Sequential(nn.BatchNorm2d(3)))  # has seen a mean of 0 and a deviation of 1
    settings = Synthesis(iterations=60, total_variation=0, mix=0)
    pixels = Synthesiser([source], settings, (3, 8, 8), ONE * 0.25, ONE * 0.1).generate(8, 0)
    assert pixels.float().mean().item() / 255 == pytest.approx(0.25, abs=0.01)
    assert pixels.float().std().item() / 255 == pytest.approx(0.1, abs=0.01)


def test_a_batch_depends_on_seed_and_number_alone() -> None:
    made = synthesiser()
    first = made.generate(3, 7)
    torch.manual_seed(99)
    assert torch.equal(synthesiser().generate(3, 7), first)
    assert not torch.equal(made.generate(3, 8), first)
    assert not torch.equal(synthesiser(Synthesis(iterations=4, seed=1)).generate(3, 7), first)
    assert first.dtype == torch.uint8
    assert len(first.unique()) > 20


def test_the_images_are_made_where_no_gradients_are_wanted() -> None:
    with torch.inference_mode():
        assert torch.equal(synthesiser().generate(2, 0), synthesiser().generate(2, 0))


def test_images_start_at_half_their_size_where_the_network_runs_on_it() -> None:
    assert synthesiser(Synthesis(iterations=10), size=64).phases() == [((32, 32), 5), ((64, 64), 5)]
    assert synthesiser(Synthesis(iterations=10), size=32).phases() == [((32, 32), 10)]
    assert synthesiser(Synthesis(iterations=10, start_size=64), size=64).phases() == [((64, 64), 10)]
    assert synthesiser(Synthesis(iterations=10, start_part=0), size=64).phases() == [((64, 64), 10)]
    assert synthesiser(Synthesis(iterations=4, start_size=4, start_part=0.25)).phases()[0] == ((4, 4), 1)
    fixed = toy(MaxPooled)  # its linear layer fixes the size
    assert synthesiser(QUICK, fixed).generate(2, 0).shape == (2, 3, 8, 8)
    with pytest.raises(SettingsError, match=r"^synthesis.start_size=4: a network can't be run on .* 4x4 "):
        synthesiser(Synthesis(start_size=4), fixed).generate(2, 0)


@pytest.mark.parametrize("seen", [True, False])
def test_a_larger_size_goes_on_from_the_smaller_ones_images(seen: bool) -> None:
    settings = Synthesis(iterations=2, start_size=4, learning_rate=1e-9 if seen else 0.1)
    pixels = synthesiser(settings).generate(2, 0).float() / 255
    start = noise((2, 3, 4, 4), torch.Generator().manual_seed(0))
    large = nn.functional.interpolate(start, size=(8, 8), mode="bilinear")
    assert torch.allclose(pixels, large, atol=0.003) == seen


def test_a_network_that_gives_nan_is_refused_by_its_layer() -> None:
    net = experienced()
    nn.init.constant_(net.features[4].weight, torch.nan)
    with pytest.raises(
        CalibrationError, match=r"PlainConv gives NaN or infinite values at features.5: check"
    ):
        synthesiser(QUICK, net).generate(2, 0)


def test_a_network_that_calls_no_batch_norm_is_refused() -> None:
    net = Plain()
    net.aside = nn.BatchNorm2d(2)
    made = Synthesiser([Source(net)], QUICK, (1, 8, 8), ZERO[:1], ONE[:1])
    with pytest.raises(CalibrationError, match=r"Plain calls none of the layers .*: aside"):
        made.generate(2, 0)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_full_memory_names_the_batch_size(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthesiser()

    def fail(source: Source, inputs: Tensor) -> None:
        raise error

    monkeypatch.setattr(Source, "forward", fail)
    with pytest.raises(CalibrationError, match=r"for 32 images of 8x8 at once: lower synthesis\.batch_size"):
        made.generate(2, 0)


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthesiser()

    def fail(source: Source, inputs: Tensor) -> None:
        raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(Source, "forward", fail)
    with pytest.raises(RuntimeError, match="illegal"):
        made.generate(2, 0)


def test_the_estimate_counts_what_autograd_keeps() -> None:
    made = synthesiser(Synthesis(iterations=10))
    two, eight = (estimate(made, count).activations for count in (2, 8))
    assert two > 2 * 8 * 8 * 8 * 4  # at least what the first batch norm reads
    assert 3 * two < eight < 5 * two
    assert estimate(made, 1).seconds > 0
