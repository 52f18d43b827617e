"""The LightningModule of detectors: losses, scores, schedule and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from snn_lightning import SpikingModel, convert
from snn_lightning.errors import SettingsError, SNNLightningError
from snn_lightning.training import LitDetector, detection
from snn_lightning.training.detection import steps_factor

SMALL = {"source": "detection", "name": "retinanet", "fpn_channels": 32, "score_thresh": 0.0}
BOX = [4.0, 4.0, 20.0, 24.0]


def module(**settings) -> LitDetector:
    torch.manual_seed(0)
    return LitDetector({**SMALL, **settings.pop("model", {})}, 3, 3, 32, **settings)


def trainer(folder: Path, **settings) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kept = {"enable_checkpointing": False, "log_every_n_steps": 1, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, **{"max_epochs": 1, **quiet, **kept, **settings})


def target(boxes: Any = (BOX,), labels: Any = (1,), **more) -> dict[str, Any]:
    boxes = torch.tensor(boxes).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), **more}


def loader(targets: list[dict[str, Any]], batch_size: int = 2) -> DataLoader:
    """Noise with a bright rectangle where the box is."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 32, 32 + 8 * (i % 2), generator=generator) / 4 for i in range(len(targets))]
    for image, wanted in zip(images, targets, strict=True):
        for x1, y1, x2, y2 in wanted["boxes"].int().tolist():
            image[:, y1:y2, x1:x2] += 0.7
    pairs = list(zip(images, targets, strict=True))
    return DataLoader(pairs, batch_size, collate_fn=lambda batch: tuple(map(list, zip(*batch, strict=True))))


def score(detections: list[dict[str, Tensor]], targets: list[dict[str, Any]]) -> dict[str, float]:
    lit = module()
    metric = lit.new_metric()
    lit.feed(metric, detections, targets)
    return lit.read(metric)


def found(boxes: Any, labels: Any, scores: Any) -> dict[str, Tensor]:
    return {**target(boxes, labels), "scores": torch.tensor(scores)}


def test_steps_factor_by_hand() -> None:
    assert [steps_factor(s, [4, 6], 0.1, 3) for s in range(8)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_the_schedule_is_that_of_the_paper() -> None:
    lit = module()
    factors = [lit.learning_rate_factor(step, 120, 10.0) for step in (0, 9, 79, 80, 109, 110, 119)]
    assert factors == pytest.approx([0.1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert (lit.hparams["learning_rate"], lit.hparams["momentum"], lit.hparams["weight_decay"]) == (
        16 * 0.000625,
        0.9,
        1e-4,
    )
    cosine = module(schedule="cosine", warmup_epochs=0)
    assert [cosine.learning_rate_factor(step, 120, 10.0) for step in (0, 60, 120)] == pytest.approx(
        [1, 0.5, 0]
    )


def test_perfect_boxes_score_one_and_half_of_them_the_recall_that_they_reach() -> None:
    two = [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0]]
    targets = [target(two, (1, 1), image_id=7)]
    perfect = found(two, (1, 1), (0.9, 0.8))
    assert score([perfect], targets) == {"map50": 1.0, "map": 1.0}
    # Precision 1 at the 51 of COCO's 101 recalls that are at most 1/2.
    half = score([found(two[:1], (1,), (0.9,))], targets)
    assert half == pytest.approx({"map50": 51 / 101, "map": 51 / 101})
    # Intersection over union 0.62: found at 0.5, 0.55 and 0.6 of the ten thresholds.
    loose = found([[0.0, 0.0, 10.0, 6.2]], (1,), (0.9,))
    assert score([loose], [target(two[:1])]) == pytest.approx({"map50": 1.0, "map": 0.3})
    assert score([found(two, (2, 2), (0.9, 0.8))], targets) == {"map50": 0.0, "map": 0.0}


def test_boxes_around_crowds_do_not_count() -> None:
    crowd = target(
        [BOX, [0.0, 0.0, 3.0, 3.0]], (1, 1), iscrowd=torch.tensor([1, 0]), area=torch.tensor([320.0, 9])
    )
    assert score([found([[0.0, 0.0, 3.0, 3.0]], (1,), (0.9,))], [crowd])["map50"] == 1.0


def test_without_boxes_there_is_no_score() -> None:
    none = [target([], [])]
    with pytest.raises(SettingsError, match="None of the test images has a box"):
        score([found([BOX], (1,), (0.9,))], none)


def test_a_fit_learns_and_logs_each_loss_and_the_scores(tmp_path: Path) -> None:
    lit = module(learning_rate=0.02, schedule="cosine", warmup_epochs=1, model={"head_norm": "group"})
    batches = loader([target()] * 8, 4)
    run = trainer(tmp_path, max_epochs=4, gradient_clip_val=5.0)
    with torch.no_grad():
        before = sum(lit(*next(iter(batches))).values())
    run.fit(lit, batches, loader([target()] * 2))
    logged = run.callback_metrics
    names = {"train/loss", "train/classification", "train/bbox_regression", "val/map50", "val/map"}
    assert names <= set(logged)
    parts = logged["train/classification"] + logged["train/bbox_regression"]
    torch.testing.assert_close(logged["train/loss"], parts)
    assert logged["train/loss"] < 0.9 * before
    result = run.test(lit, loader([target()] * 2), verbose=False)[0]
    assert result == {f"test/{name}": value for name, value in lit.scores.items()}
    assert lit.scores["map50"] == pytest.approx(logged["val/map50"].item())


def test_validation_images_without_boxes_are_passed_over(tmp_path: Path) -> None:
    run = trainer(tmp_path, limit_train_batches=1)
    run.fit(module(), loader([target()] * 2), loader([target([], [])] * 2))
    assert "val/map50" not in run.callback_metrics
    assert "train/loss" in run.callback_metrics


def test_images_without_boxes_train_too(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(module(), loader([target(), target([], [])]))
    assert run.callback_metrics["train/loss"] > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            target([BOX], [3], image_id=42),
            r"Image 42 has a box of label 3, .* num_classes=3 are 1 to 2 \(0 is",
        ),
        (target([BOX], [0]), "Image 1 has a box of label 0"),
        (
            target([[5.0, 5.0, 5.0, 9.0]], [1], image_id=42),
            r"Image 42 has the box \[5\.0, .*\], which has no area",
        ),
    ],
    ids=["label", "background", "empty"],
)
def test_wrong_targets_are_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        trainer(tmp_path).fit(module(), loader([target(), wrong]))


@pytest.mark.parametrize(
    "batch",
    [
        torch.rand(2, 3, 32, 32),
        [torch.rand(3, 32, 32)],
        [torch.rand(2, 3, 32, 32), torch.zeros(2)],
        [[torch.rand(3, 32, 32)], [{"boxes": torch.zeros(0, 4)}]],
    ],
    ids=["images", "list", "labels", "boxes alone"],
)
@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step"])
def test_every_step_needs_targets(batch: Any, step: str) -> None:
    with pytest.raises(
        SettingsError,
        match=r"A detector needs boxes: .* set data.target=boxes.* Only calibration takes images",
    ):
        getattr(module(), step)(batch, 0)


def test_a_training_that_diverges_ends(tmp_path: Path) -> None:
    lit = module(learning_rate=0.5)
    with torch.no_grad():
        lit.net.head.classification_head.cls_logits.bias.fill_(torch.nan)
    with pytest.raises(
        SNNLightningError, match=r"diverges: at step 0 .* classification nan, .*learning_rate \(0\.5\)"
    ):
        trainer(tmp_path).fit(lit, loader([target()] * 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1}, r"module\.learning_rate must not be negative"),
        ({"schedule": "step"}, r"module\.schedule must be 'steps' or 'cosine', got 'step'"),
        ({"milestones": [8, 0]}, r"module\.milestones must be a positive number, got 0"),
        ({"factor": 0}, r"module\.factor must be a positive number, got 0"),
        ({"model": {"backbon": "resnet18"}}, "unknown setting of model 'retinanet': 'backbon'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        module(**settings)


def test_it_takes_no_classifier() -> None:
    with pytest.raises(
        SettingsError, match="resnet20 is for classification and the module for detection: set mod"
    ):
        LitDetector({"name": "resnet20"}, 3, 3, 32)


def test_without_pycocotools_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("pycocotools")

    monkeypatch.setattr(detection, "MeanAveragePrecision", missing)
    with pytest.raises(SettingsError, match=r"pip install 'snn_lightning\[detection\]'"):
        module()


def test_a_checkpoint_holds_plain_settings_and_gives_the_same_detections(tmp_path: Path) -> None:
    lit = module(milestones=OmegaConf.create([1, 2]), class_names=["background", "cat", "dog"])
    run = trainer(tmp_path)
    run.fit(lit, loader([target()] * 2))
    run.save_checkpoint(tmp_path / "ann.ckpt", weights_only=True)
    again = LitDetector.load_from_checkpoint(tmp_path / "ann.ckpt").eval()
    assert dict(again.hparams) == dict(lit.hparams)
    images = [torch.rand(3, 32, 40)]
    with torch.no_grad():
        one, two = lit.eval()(images)[0], again(images)[0]
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_body_that_spikes_is_scored_at_some_steps_and_trains(tmp_path: Path) -> None:
    lit = module()
    batches = loader([target()] * 2)
    lit.net = convert(lit.net, next(iter(batches))[0], 4, network="backbone.body")
    snn = lit.spiking
    assert isinstance(snn, SpikingModel)
    run = trainer(tmp_path)
    run.test(lit, batches, verbose=False)
    assert lit.times == [1, 2, 4]
    assert {name: values[-1] for name, values in lit.scores_over_time.items()} == lit.scores
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    run.fit(lit, batches)
    after = snn.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])}
    assert all(
        torch.equal(before[name], after[name]) for name in before if name.endswith((".v_th", ".v_init"))
    )


def test_images_that_other_processes_have_too_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They become images without boxes: torchmetrics gathers image by image, and needs as many everywhere."""
    lit, metrics = module(), list[Any]()
    read = LitDetector.read
    monkeypatch.setattr(
        LitDetector, "read", lambda self, metric: (metrics.append(metric), read(self, metric))[1]
    )
    data = loader([target([[4.0, 4.0, 20.0 + i, 24.0]]) for i in range(3)])
    sampler = DistributedSampler(data.dataset, num_replicas=2, rank=1, shuffle=False)
    assert list(sampler) == [1, 0]
    for batch_size in (1, 2):
        batches = DataLoader(data.dataset, batch_size, sampler=sampler, collate_fn=data.collate_fn)
        trainer(tmp_path).test(lit, batches, verbose=False)
        boxes = metrics[-1].groundtruth_box
        assert [part.tolist() for part in boxes] == [[[4.0, 4.0, 17.0, 20.0]], []]
        assert len(metrics[-1].detection_box[1]) == 0
