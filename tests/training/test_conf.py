"""Every YAML group composes, and builds what it names."""

from dataclasses import fields
from inspect import signature
from pathlib import Path

import pytest
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from omegaconf import DictConfig, OmegaConf

from snn_lightning.callbacks.averaging import EMAWeightAveraging
from snn_lightning.data import CocoDetection, Digits, Folder, ImageDataModule, Shapes
from snn_lightning.models import list_models
from snn_lightning.models.detection import DetectorSettings
from snn_lightning.training import ClassificationModule, LitDetector, LitSegmenter
from tests import fake_timm
from tests.composing import composed, group
from tests.data.coco_files import write_coco
from tests.data.files import write_image_folder
from tests.versions import needs_averaging

OTHERS = {"detection": LitDetector, "segmentation": LitSegmenter}
"""Sources of models, and the modules that train them."""


def config(folder: Path, *overrides: str) -> DictConfig:
    return composed("train", folder, *overrides)


@pytest.mark.parametrize("name", group("model"))
def test_models(hydra: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm.install(monkeypatch)
    settings = config(hydra, f"model={name}")
    kind = next(
        (kind for source, kind in OTHERS.items() if name in list_models(source)), ClassificationModule
    )
    sizes = {"num_classes": 10, "in_channels": 1 if kind is ClassificationModule else 3, "image_size": 32}
    net = instantiate(settings.module, model=settings.model, **sizes)
    assert isinstance(net, kind)
    assert net.hparams["model"] == OmegaConf.to_container(settings.model, resolve=True)


def test_every_model_has_its_file() -> None:
    own = [name for source in OTHERS for name in list_models(source)]
    variants = ["resnet20_deep", "resnet20_deep_no_bn", "resnet34_no_bn"]
    assert group("model") == sorted([*list_models(), *own, *variants, "import", "timm", "torchvision"])


@pytest.mark.parametrize("name", list_models("detection"))
def test_the_files_of_detectors_state_the_defaults_of_the_code(hydra: Path, name: str) -> None:
    settings = config(hydra, f"model={name}")
    defaults = {field.name: field.default for field in fields(DetectorSettings)}
    stated = {key: value for key, value in settings.model.items() if key not in ("name", "source")}
    assert stated == {**defaults, "min_size": None}
    recipe = {key: value for key, value in settings.module.items() if key != "_target_"}
    parameters = signature(LitDetector).parameters
    assert {key: tuple(value) if key == "milestones" else value for key, value in recipe.items()} == {
        key: parameters[key].default for key in recipe
    }


def test_the_experiments_of_detectors_hold_the_papers_recipe(hydra: Path) -> None:
    s = config(hydra, "experiment=pc_coco_retinanet")
    assert (s.data._target_, s.module._target_) == (
        "snn_lightning.data.CocoDetection",
        "snn_lightning.training.LitDetector",
    )
    assert (s.model.name, s.model.backbone, s.model.norm, s.model.trainable_layers) == (
        "retinanet",
        "resnet50",
        "frozen",
        3,
    )
    assert (s.data.image_size, s.model.max_size, s.trainer.max_epochs) == (800, 1333, 12)
    assert s.module.learning_rate == 0.000625 * s.data.batch_size * s.trainer.accumulate_grad_batches
    assert (s.module.milestones, s.module.factor, s.module.warmup_epochs) == ([8, 11], 0.1, 1)
    small = config(hydra, "experiment=shapes_detection", "model=faster_rcnn", "trainer.max_epochs=2")
    assert (small.model.name, small.model.backbone, small.trainer.max_epochs) == (
        "faster_rcnn",
        "resnet18",
        2,
    )


@pytest.mark.parametrize("name", group("data"))
def test_data(hydra: Path, name: str) -> None:
    if name == "folder":
        write_image_folder(hydra)
    if name == "coco":
        write_coco(hydra / "coco")
    data = instantiate(config(hydra, f"data={name}", f"data_root={hydra}", "seed=7").data)
    assert isinstance(data, ImageDataModule)
    assert data.settings.seed == 7


def test_the_file_of_a_folder_states_the_defaults_of_the_code(hydra: Path) -> None:
    write_image_folder(hydra)
    data = instantiate(config(hydra, "data=folder", f"data_root={hydra}").data)
    default = Folder(hydra, calibration_seed=0)
    for field in ("settings", "image_size", "in_channels", "test_fraction"):
        assert getattr(data, field) == getattr(default, field)
    assert str(data.plain_transform()) == str(default.plain_transform())


def test_the_files_of_coco_and_shapes_state_the_defaults_of_the_code(hydra: Path) -> None:
    write_coco(hydra / "coco")
    defaults = {
        "coco": CocoDetection(hydra / "coco", calibration_seed=0),
        "shapes": Shapes(hydra, calibration_seed=0),
    }
    for name, default in defaults.items():
        data = instantiate(config(hydra, f"data={name}", f"data_root={hydra}").data)
        for field in ("settings", "image_size", "target", "skip_unreadable", "root"):
            assert getattr(data, field) == getattr(default, field)


def test_a_file_states_the_defaults_of_the_code(hydra: Path) -> None:
    assert instantiate(config(hydra).data).settings == Digits(calibration_seed=0).settings


@pytest.mark.parametrize("name", group("trainer"))
def test_trainers(hydra: Path, name: str) -> None:
    settings = config(hydra, f"trainer={name}").trainer
    assert settings.default_root_dir == str(hydra)
    if name != "gpu":  # needs one
        trainer = instantiate(settings, accelerator="cpu", logger=False)
        assert isinstance(trainer, Trainer)
        assert trainer.world_size == (2 if name == "ddp" else 1)


@pytest.mark.parametrize("name", group("logger"))
def test_loggers(hydra: Path, name: str) -> None:
    pytest.importorskip({"wandb": "wandb", "tensorboard": "tensorboard"}.get(name, "lightning"))
    loggers = [instantiate(entry) for entry in config(hydra, f"logger={name}").logger.values()]
    assert [Path(logger.save_dir) for logger in loggers] == ([] if name == "none" else [hydra])


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("none", []),
        ("default", [LearningRateMonitor]),
        pytest.param("ema", [LearningRateMonitor, EMAWeightAveraging], marks=needs_averaging),
    ],
)
def test_callbacks(hydra: Path, name: str, kinds: list[type]) -> None:
    assert [type(instantiate(c)) for c in config(hydra, f"callbacks={name}").callbacks.values()] == kinds
    assert name in group("callbacks")


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("cifar_bn", [], (0.1, 5e-4, 0.0, 300, "vgg16_bn", "CIFAR10", False)),
        (
            "cifar_bn",
            ["model=resnet20", "data=cifar100", "trainer.max_epochs=2"],
            (0.1, 5e-4, 0.0, 2, "resnet20", "CIFAR100", False),
        ),
        ("cifar_no_bn", [], (0.005, 1e-4, 0.0, 300, "vgg16", "CIFAR10", False)),
        ("imagenet", [], (0.1, 1e-4, 0.1, 120, "resnet34", "ImageNet", True)),
        ("imagenet", ["model=vgg16"], (0.1, 1e-4, 0.1, 120, "vgg16", "ImageNet", True)),
    ],
)
def test_experiments_hold_the_papers_recipes(
    hydra: Path, name: str, overrides: list[str], expected: tuple
) -> None:
    s = config(hydra, f"experiment={name}", *overrides)
    found = (s.module.learning_rate, s.module.weight_decay, s.module.label_smoothing, s.trainer.max_epochs)
    data = s.data._target_.rpartition(".")[2]
    assert (*found, s.model.name, data, "ema" in s.callbacks) == expected
    assert s.module.momentum == 0.9
    if name == "cifar_no_bn":
        assert s.model.dropout == 0.25


def test_the_file_of_segmentation_states_the_defaults_of_the_code(hydra: Path) -> None:
    settings = config(hydra, "model=fcn").module
    defaults = {name: field.default for name, field in signature(LitSegmenter).parameters.items()}
    stated = {name: value for name, value in settings.items() if name != "_target_"}
    assert stated == {name: defaults[name] for name in stated}
    assert len(stated) == 5


def test_the_recipe_of_segmentation(hydra: Path) -> None:
    settings = config(hydra, "experiment=shapes_segmentation")
    assert (settings.model.name, settings.data.target) == ("fcn", "masks")
    assert settings.module._target_ == "snn_lightning.training.LitSegmenter"
