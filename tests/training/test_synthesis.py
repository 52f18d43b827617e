"""Synthesis under a Trainer, by hand, in two processes and after a kill."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from snn_lightning import Synthesis, capture_statistics, synthesise
from snn_lightning.errors import CalibrationError, SettingsError
from snn_lightning.synthesis import Synthesiser
from snn_lightning.training.synthesis import SynthesisModule
from tests.processes import as_torchrun, finish, fork, free_port
from tests.synthesis.support import Plain, experienced, pictures
from tests.training.synthesis_processes import COUNT, SETTINGS, make

SCRIPT = Path(__file__).with_name("synthesis_processes.py")
QUICK = Synthesis(iterations=3, batch_size=2)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return make()


def test_images_come_normalised_as_they_lie_in_the_folder(tmp_path: Path) -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.5]
    images = synthesise(experienced(), 3, (8, 10), QUICK, folder=tmp_path, mean=mean, std=std, progress=False)
    assert images.shape == (3, 3, 8, 10)
    names = ["contact_sheet.png", *(f"image_{i:05d}.png" for i in range(3)), "synthesis.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for i in range(3):
        with Image.open(tmp_path / names[1 + i]) as image:
            pixels = torch.tensor(list(image.getdata())).reshape(8, 10, 3).permute(2, 0, 1)
        expected = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        assert torch.equal(images[i], expected)


def test_grey_images_of_captured_statistics(tmp_path: Path) -> None:
    statistics = capture_statistics(Plain(), [pictures(16, 1)])
    images = synthesise(Plain(), 2, 8, QUICK, statistics=statistics, progress=False)
    assert images.shape == (2, 1, 8, 8)
    statistics.save(tmp_path / "plain.pt")
    settings = Synthesis(iterations=3, batch_size=2, statistics=str(tmp_path / "plain.pt"))
    assert torch.equal(synthesise(Plain(), 2, 8, settings, progress=False), images)
    with pytest.raises(SettingsError, match=r"^synthesis.statistics names a file, and statistics= are given"):
        synthesise(Plain(), 2, 8, settings, statistics=statistics)


def test_the_network_and_the_random_streams_stay_as_they_are() -> None:
    net = experienced().train()
    net.head.requires_grad_(False)
    before = deepcopy(net)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    synthesise(net, 2, 8, QUICK, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    for ours, theirs in zip(net.modules(), before.modules(), strict=True):
        assert ours.training == theirs.training
        assert not ours._forward_hooks
        assert not ours._forward_pre_hooks
    for (name, tensor), other in zip(net.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(parameter.grad is None for parameter in net.parameters())


def test_batches_are_shared_out_and_made_by_hand(tmp_path: Path, images: Tensor) -> None:
    for rank in range(3):
        module = SynthesisModule(experienced(), COUNT, 8, SETTINGS, folder=tmp_path)
        for batch in module.batches(rank, 3):
            assert module.predict_step(batch) in (1, 2)
    assert list(module.batches()) == [0, 1, 2]
    module.finish()
    assert torch.equal(module.images(), images)
    assert (tmp_path / "contact_sheet.png").exists()


def test_two_processes_make_the_same_images(tmp_path: Path, images: Tensor) -> None:
    port = free_port()
    given = [as_torchrun(rank, port=port) for rank in range(2)]
    for status, output in finish(*(fork(SCRIPT, tmp_path, **variables) for variables in given)):
        assert status == 0, output
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(found["images"], images)
    assert found["batches"] == [1]  # there is none, and the process takes part


def test_a_killed_synthesis_goes_on_where_it_was(
    tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, made = Synthesiser.generate, []

    def killed(self: Synthesiser, count: int, index: int, *rest: Any) -> Tensor:
        made.append(index)
        if made == [0, 1]:
            raise KeyboardInterrupt
        return generate(self, count, index, *rest)

    monkeypatch.setattr(Synthesiser, "generate", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        make(folder=tmp_path)
    assert made == [0, 1]
    assert torch.equal(make(folder=tmp_path), images)
    assert made == [0, 1, 1, 2]
    assert torch.equal(make(folder=tmp_path), images)
    assert made == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"settings": Synthesis(iterations=4, batch_size=2)}, "settings"),
        ({"count": 3}, "count"),
        ({"mean": 0.5}, "mean"),
        ({"size": (8, 9)}, "shape"),
        ({"ann": nn.Sequential(nn.BatchNorm2d(3))}, "networks, statistics"),
        ({"sources": [experienced()]}, "networks, statistics"),
    ],
)
def test_a_folder_of_other_images_is_refused(tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    arguments = {"ann": experienced(), "count": 2, "size": 8, "settings": QUICK, "folder": tmp_path}
    SynthesisModule(**arguments)
    with pytest.raises(SettingsError, match=f"were made with other {what}: choose another folder"):
        SynthesisModule(**{**arguments, **changed})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"count": 0}, SettingsError, "^count must be a whole number of at least 1, got 0"),
        ({"size": (8, 8, 8)}, SettingsError, r"^size must be a side or \(height, width\), got \(8, 8, 8\)"),
        ({"size": 0}, SettingsError, "^size must be a whole number of at least 1, got 0"),
        ({"std": 0}, SettingsError, "^std must be positive numbers, one or one a channel, got 0"),
        ({"mean": ["a"]}, SettingsError, r"^mean must be numbers, .* got \['a'\]"),
        ({"mean": [0.1, 0.2]}, CalibrationError, "can't be run on images of 8x8 pixels"),
        ({"mean": [0.1] * 3, "channels": 1}, SettingsError, "channels, mean and std must agree"),
        ({"ann": Plain()}, CalibrationError, "has no batch norm"),
        ({"sources": [Plain()]}, CalibrationError, "Plain has no batch norm"),
        ({"sources": [experienced(1)]}, CalibrationError, "can't be run on images of 8x8 pixels"),
        ({"device": "cpu", "trainer": object()}, SettingsError, "^device: a Trainer brings its own"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"ann": experienced(), "count": 2, "size": 8, "settings": QUICK, **arguments}
    with pytest.raises(error, match=message):
        synthesise(**given)


def test_it_says_what_it_will_cost(capsys: pytest.CaptureFixture[str]) -> None:
    synthesise(experienced(1), 3, 8, QUICK)
    output = capsys.readouterr().out
    (line,) = (line for line in output.splitlines() if "Synthesis of" in line)
    assert "Synthesis of 3 images in 2 batches: " in line
    assert "MiB of activations a batch (measured: one iteration)" in line
    assert "images 2-3 of 3" in output
