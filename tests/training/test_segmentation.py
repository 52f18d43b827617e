import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler
from torchmetrics.functional.classification import multiclass_jaccard_index

from snn_lightning import convert
from snn_lightning.errors import SettingsError, SNNLightningError
from snn_lightning.training import LitSegmenter
from snn_lightning.training.segmentation import segmentation_scores
from tests.training.test_classification import trainer

MODEL = {"name": "fcn", "source": "segmentation", "backbone": "resnet18"}


def module(**changes: Any) -> LitSegmenter:
    """A module whose network is small; its classes are the channels of the images."""
    made = LitSegmenter(MODEL, 3, 3, 8, **changes)
    made.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return made


def loader(count: int = 16) -> DataLoader:
    random = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (count, 4, 4), generator=random).repeat_interleave(2, 1).repeat_interleave(2, 2)
    x = 0.3 * torch.randn(count, 3, 8, 8, generator=random) + 2 * nn.functional.one_hot(y, 3).permute(
        0, 3, 1, 2
    )
    y[:, 0] = 255
    return DataLoader(TensorDataset(x, y), batch_size=4)


def scores(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """The scores of classes, through logits as a network gives them."""
    made = module()
    metric = made.new_metric()
    made.feed(metric, {"out": nn.functional.one_hot(predictions, 3).permute(0, 3, 1, 2).float()}, targets)
    return made.read(metric)


def test_scores_by_hand() -> None:
    targets = torch.tensor([[[0, 0, 1], [1, 1, 255]]])
    predictions = torch.tensor([[[0, 1, 1], [1, 0, 2]]])
    # Class 0: one of three pixels; class 1: two of four; class 2 is predicted only where it doesn't count.
    assert scores(predictions, targets) == {
        "miou": pytest.approx((1 / 3 + 2 / 4) / 2),
        "pixel_accuracy": pytest.approx(3 / 5),
    }


def test_a_class_that_is_predicted_and_never_there_counts_as_zero() -> None:
    targets = torch.tensor([[[0, 0], [1, 1]]])
    predictions = torch.tensor([[[0, 0], [1, 2]]])
    assert scores(predictions, targets)["miou"] == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_without_a_pixel_there_is_no_score() -> None:
    found = scores(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 255))
    assert math.isnan(found["miou"])
    assert math.isnan(found["pixel_accuracy"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_the_mean_is_that_of_torchmetrics(pixels: list[tuple[int, int]]) -> None:
    targets, predictions = (torch.tensor(part) for part in zip(*pixels, strict=True))
    confusion = torch.bincount(3 * targets + predictions, minlength=9).view(3, 3)
    expected = multiclass_jaccard_index(predictions, targets, 3).item()
    assert segmentation_scores(confusion)["miou"] == pytest.approx(expected, abs=1e-6)


def test_images_are_one_set_of_pixels_however_they_are_batched() -> None:
    made = module()
    metric = made.new_metric()
    for prediction, target in ((0, 0), (1, 0), (1, 1)):
        logits = torch.zeros(1, 3, 1, 1)
        logits[0, prediction] = 1
        made.feed(metric, logits, torch.full((1, 1, 1), target))
    assert made.read(metric) == {"miou": 0.5, "pixel_accuracy": pytest.approx(2 / 3)}
    assert segmentation_scores(torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]])) == made.read(metric)


def test_a_fit_learns_logs_and_is_tested(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = module(learning_rate=0.3)
    run = trainer(tmp_path, max_epochs=8)
    run.fit(net, loader(), loader(8))
    assert {"train/loss", "val/miou"} <= set(run.callback_metrics)
    assert run.callback_metrics["val/miou"] > 0.9
    logged = run.test(net, loader(8), verbose=False)[0]
    x, y = loader(8).dataset.tensors
    counted = y != 255
    with torch.no_grad():
        right = (net.eval()(x).argmax(1) == y)[counted].float().mean().item()
    assert net.scores["pixel_accuracy"] == pytest.approx(right)
    assert logged == {
        "test/miou": pytest.approx(net.scores["miou"]),
        "test/pixel_acc": pytest.approx(right),
    }
    assert net.scores_over_time == {}


def test_validation_starts_anew_each_epoch(tmp_path: Path) -> None:
    net = module(learning_rate=0.0)
    run = trainer(tmp_path)
    seen = []
    for _ in range(2):
        run.validate(net, loader(), verbose=False)
        seen.append(run.callback_metrics["val/miou"])
    assert seen[0] == seen[1]
    assert net._confusion.confmat.sum() == 0


def test_ignored_pixels_are_no_part_of_the_loss() -> None:
    net = module()
    net.log = lambda *args, **kwargs: None
    x, y = next(iter(loader()))
    with torch.no_grad():
        logits = net(x)
        expected = cross_entropy(logits[:, :, 1:], y[:, 1:])
        assert net.training_step((x, y), 0) == pytest.approx(expected.item())
        assert net.training_step((x, torch.full_like(y, 255)), 0) == 0


def test_a_spiking_network_is_scored_at_doubling_time_steps(tmp_path: Path) -> None:
    net = module()
    x, y = loader(8).dataset.tensors
    net.net = snn = convert(net.net, x, timesteps=6)
    trainer(tmp_path).test(net, loader(8), verbose=False)
    assert net.times == [1, 2, 4, 6]
    means = snn.running_mean(x)
    expected = [(means[t - 1].argmax(1) == y)[y != 255].float().mean().item() for t in net.times]
    assert net.scores_over_time["pixel_accuracy"] == pytest.approx(expected)
    assert net.scores_over_time["miou"][-1] == net.scores["miou"]


def test_a_checkpoint_rebuilds_the_module(tmp_path: Path) -> None:
    net = LitSegmenter(MODEL, 3, 3, 16, class_names=["background", "a", "b"], learning_rate=0.07)
    run = trainer(tmp_path, max_steps=0)
    data = DataLoader(TensorDataset(torch.zeros(2, 3, 16, 16), torch.zeros(2, 16, 16).long()))
    run.fit(net, data, data)
    run.save_checkpoint(tmp_path / "ann.ckpt")
    back = LitSegmenter.load_from_checkpoint(tmp_path / "ann.ckpt", weights_only=True).eval()
    assert back.hparams["class_names"] == ["background", "a", "b"]
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(back(x), net.eval()(x))
    keys = torch.load(tmp_path / "ann.ckpt", weights_only=True)["state_dict"]
    assert all(key.startswith("net.") for key in keys)


X, Y = torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X, r"gives a tensor \[2, 3, 8, 8\] of torch.float32: set data.target=masks"),
        (([X[0]], [{"boxes": 0}]), "gives a list, a list: set data.target=masks"),
        ((X, torch.tensor([1, 2])), r"a tensor \[2\] of torch.int64: set data.target=masks"),
        ((X, Y.float()), "of torch.float32: set data.target=masks"),
        ((X, Y[:, :4, :4]), r"masks \[2, 4, 4\] are of another size than the images \[2, 3, 8, 8\]"),
        ((X, Y[:1]), r"masks \[1, 8, 8\] are of another size"),
        ((X, Y + 3), "have the labels 3, and the data's num_classes=3 allows 0 to 2, .* and 255 for pixels"),
        ((X, Y - 1), "have the labels -1, and"),
    ],
)
def test_bad_batches_are_refused(batch: Any, message: str) -> None:
    net = module()
    for step in (net.training_step, net.validation_step, net.test_step):
        with pytest.raises(SettingsError, match=message):
            step(batch, 0)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(
        SNNLightningError, match=r"The loss is nan after 0 steps: lower module\.learning_rate"
    ):
        module().training_step((X * math.nan, Y), 0)


def test_a_negative_setting_is_named() -> None:
    with pytest.raises(SettingsError, match=r"module\.warmup_epochs must not be negative, got -1"):
        module(warmup_epochs=-1)


def test_boxes_are_refused_before_anything_is_trained() -> None:
    net = module()
    with pytest.raises(SettingsError, match=r"gives a list, a list: set data\.target=masks"):
        net.check_batch(([X[0]], [{"boxes": 0}]))
    for calibrates in (X, (X, Y), (X, "anything")):
        net.check_batch(calibrates)


def test_images_that_other_processes_have_too_count_once(tmp_path: Path) -> None:
    """Of three images the second of two processes has one, and the first one again to fill up."""
    data, net = loader(3).dataset, module()
    sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
    assert list(sampler) == [1, 0]
    for batch_size in (1, 2):
        trainer(tmp_path).test(net, DataLoader(data, batch_size, sampler=sampler), verbose=False)
        shared = net.scores
        trainer(tmp_path).test(net, DataLoader(Subset(data, [1])), verbose=False)
        assert net.scores == shared
