"""Every group of calibrate.yaml composes and builds what it names; for train.yaml see tests/training."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LearningRateMonitor
from omegaconf import DictConfig, OmegaConf, open_dict

from snn_lightning import (
    ACP,
    IF,
    LCP,
    MMSE,
    QCFS,
    RMP,
    RNL,
    TSC,
    Augmentation,
    Baseline,
    Burst,
    Cap,
    Max,
    MaxAct,
    Opt,
    Parallel,
    Percentile,
    RobustNorm,
    Signed,
    SpikeNorm,
    Switch,
)
from snn_lightning.analysis.energy import EnergyModel
from snn_lightning.calibration import Balance, Best, Bias, LeastSquares, NeuronSearch, Potential, Weights
from snn_lightning.cli.experiment import Experiment
from snn_lightning.errors import SettingsError
from snn_lightning.graph.capture.bounded import BoundedActivation
from snn_lightning.training import FineTuning
from tests import fake_timm
from tests.composing import composed, group
from tests.data.coco_files import write_coco
from tests.data.files import write_image_folder
from tests.versions import needs_averaging


def config(folder: Path, *overrides: str) -> DictConfig:
    return composed("calibrate", folder, *overrides)


PAPER_WEIGHTS = Weights(iterations=5000, learning_rate=1e-5, momentum=0.9, images=1024)
PAPER = {"rounding": "bias", "calibrate_readout": False}
PAPER_ACP = {**PAPER, "augment": None, "held_out": 0}
PAPER_POTENTIAL = Potential(images=128, shrink=False)


@pytest.mark.parametrize(
    ("name", "expected", "images"),
    [
        ("baseline", Baseline(16), 256),
        ("lcp", LCP(16), 256),
        ("acp", ACP(16), 256),
        ("baseline_paper", Baseline(16, **PAPER), 1024),
        ("lcp_paper", LCP(16, **PAPER, bias=Bias(images=128)), 1024),
        ("acp_paper", ACP(16, **PAPER_ACP, weights=PAPER_WEIGHTS, potential=PAPER_POTENTIAL), 1024),
        ("potential_paper", ACP(16, **PAPER_ACP, weights=None, potential=PAPER_POTENTIAL), 1024),
        ("weights_paper", ACP(16, **PAPER_ACP, weights=PAPER_WEIGHTS, potential=None), 1024),
        ("least_squares", ACP(16, weights=LeastSquares()), 256),
        ("best", Best(16), 256),
        ("hybrid", SpikeNorm(16), 256),
        ("max_act", MaxAct(16), 256),
        ("robust_norm", RobustNorm(16), 256),
        ("spike_norm", SpikeNorm(16), 256),
        ("rmp", RMP(16), 256),
        ("rnl", RNL(16), 256),
        ("tsc", TSC(16), 256),
        ("opt", Opt(16), 256),
        ("qcfs", QCFS(16), 256),
    ],
)
def test_pipelines_state_the_defaults_of_the_code_and_the_numbers_of_the_paper(
    hydra: Path, name: str, expected: Baseline, images: int
) -> None:
    settings = config(hydra, f"pipeline={name}")
    found = instantiate(settings.pipeline)
    assert found == expected
    assert settings.data.calibration_images == images
    assert settings.pipeline_name == name
    assert settings.pipeline.precision == "float32"
    assert settings.augment == "auto"
    assert found.augment == ("auto" if name in ("acp", "least_squares", "best") else None)


@pytest.mark.parametrize("name", group("pipeline"))
def test_every_pipeline_takes_a_precision(hydra: Path, name: str) -> None:
    settings = config(hydra, f"pipeline={name}", "pipeline.precision=tf32").pipeline
    assert instantiate(settings).precision == "tf32"
    settings.precision = "bf16"
    assert instantiate(settings).precision == "bf16"
    settings.precision = "bf16-mixed"
    with pytest.raises(InstantiationException, match=r"precision must be one of .*, got 'bf16-mixed'"):
        instantiate(settings)


@pytest.mark.parametrize("name", group("pipeline"))
def test_every_pipeline_leaves_analog_what_it_is_told(hydra: Path, name: str) -> None:
    settings = config(hydra, f"pipeline={name}", "analog=[head,'*.se']")
    assert instantiate(settings.pipeline).analog == ("head", "*.se")
    settings.analog = "auto"
    assert instantiate(settings.pipeline).analog == ("auto",)
    settings.analog = 3
    with pytest.raises(InstantiationException, match="analog must be names of modules or operators"):
        instantiate(settings.pipeline)


def test_every_pipeline_is_tested() -> None:
    own = ["acp", "baseline", "best", "lcp", "least_squares"]
    own += [f"{name}_paper" for name in ("acp", "baseline", "lcp", "potential", "weights")]
    papers = ["hybrid", "max_act", "opt", "qcfs", "rmp", "rnl", "robust_norm", "spike_norm", "tsc"]
    assert group("pipeline") == sorted(own + papers)


@pytest.mark.parametrize(
    ("pipeline", "activation"),
    [
        ("acp", None),
        ("max_act", None),
        ("rnl", {"name": "rate_norm", "fraction": 1.0, "momentum": 0.1}),
        ("opt", {"name": "clipped", "cap": 1.0}),
        ("qcfs", {"name": "qcfs", "levels": 4, "cap": 8.0}),
    ],
)
def test_a_pipeline_brings_the_activation_it_needs(hydra: Path, pipeline: str, activation: dict) -> None:
    settings = config(hydra, f"pipeline={pipeline}", "trainer.accelerator=cpu", "logger=none")
    assert settings.model.get("activation") == activation
    experiment = Experiment.compose(settings)
    assert experiment.recipe()["model"].get("activation") == activation
    capped = [module for module in experiment.module.net.modules() if isinstance(module, BoundedActivation)]
    assert len(capped) == (13 if activation else 0)


@pytest.mark.parametrize(("pipeline", "epochs"), [("acp", 0), ("spike_norm", 0), ("hybrid", 2)])
def test_hybrid_alone_trains_after_conversion(hydra: Path, pipeline: str, epochs: int) -> None:
    assert instantiate(config(hydra, f"pipeline={pipeline}").finetune) == FineTuning(epochs)
    assert instantiate(config(hydra, f"pipeline={pipeline}", "finetune.epochs=5").finetune).epochs == 5
    assert group("finetune") == ["default"]


def test_a_paper_pipeline_takes_another_threshold_and_activation(hydra: Path) -> None:
    assert instantiate(config(hydra, "pipeline=max_act", "threshold=mmse").pipeline).threshold == MMSE(
        "layer"
    )
    assert instantiate(
        config(hydra, "pipeline=rmp", "pipeline.balance.scale=0.5").pipeline
    ).balance == Balance(0.5)
    settings = config(hydra, "pipeline=qcfs", "activation=clipped", "model.activation.cap=2")
    assert settings.model.activation == {"name": "clipped", "cap": 2}


def test_a_paper_pipeline_takes_other_values(hydra: Path) -> None:
    overrides = [
        "pipeline=acp_paper",
        "pipeline.weights.iterations=7",
        "data.calibration_images=64",
        "data=cifar10",
    ]
    settings = config(hydra, *overrides)
    assert instantiate(settings.pipeline).weights.iterations == 7
    assert instantiate(settings.pipeline).rounding == "bias"
    assert settings.data.calibration_images == 64


@pytest.mark.parametrize(
    ("name", "expected"), [("max", Max()), ("percentile", Percentile(percentile=99.99)), ("mmse", MMSE())]
)
def test_thresholds(hydra: Path, name: str, expected: Max) -> None:
    assert name in group("threshold")
    pipeline = instantiate(config(hydra, f"threshold={name}").pipeline)
    assert pipeline.threshold == expected
    assert pipeline.threshold.granularity == "channel"
    layer = instantiate(config(hydra, f"threshold={name}", "threshold.granularity=layer").pipeline)
    assert layer.threshold.granularity == "layer"
    single = instantiate(config(hydra, f"threshold={name}_layer").pipeline)
    assert single.threshold == replace(expected, granularity="layer")
    layers = ["max_layer", "mmse_layer", "percentile_layer"]
    assert group("threshold") == sorted(["cap", "max", "mmse", "percentile", *layers])


def test_the_threshold_of_caps_is_one_for_the_layer(hydra: Path) -> None:
    assert instantiate(config(hydra, "threshold=cap").pipeline).threshold == Cap() == Cap("layer")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("if", IF()), ("signed", Signed()), ("burst", Burst()), ("switch", Switch()), ("parallel", Parallel())],
)
@pytest.mark.parametrize("pipeline", ["baseline", "lcp_paper", "acp"])
def test_neurons(hydra: Path, pipeline: str, name: str, expected: IF) -> None:
    assert group("neuron") == ["burst", "if", "parallel", "signed", "switch"]
    assert instantiate(config(hydra, f"pipeline={pipeline}", f"neuron={name}").pipeline).neuron == expected


def test_a_burst_takes_another_number(hydra: Path) -> None:
    settings = config(hydra, "neuron=burst", "neuron.spikes=5")
    assert instantiate(settings.pipeline).neuron == Burst(5)
    with pytest.raises(InstantiationException, match=r"neuron\.spikes must be a whole number from 1 to 127"):
        instantiate(config(hydra, "neuron=burst", "neuron.spikes=0").pipeline)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("float32", EnergyModel()), ("float16", EnergyModel(1.5, 0.4)), ("int8", EnergyModel(0.3, 0.1))],
)
def test_prices_of_energy(hydra: Path, name: str, expected: EnergyModel) -> None:
    assert group("energy") == ["float16", "float32", "int8"]
    assert instantiate(config(hydra, f"energy={name}").energy) == expected
    dear = instantiate(config(hydra, f"energy={name}", "energy.mac=3.7", "energy.weight=5").energy)
    assert dear == EnergyModel(mac=3.7, ac=expected.ac, weight=5)


def test_prices_that_make_no_sense(hydra: Path) -> None:
    assert instantiate(config(hydra).energy) == EnergyModel()
    with pytest.raises(InstantiationException, match=r"energy\.spike must be a number of pJ .*, got -1"):
        instantiate(config(hydra, "energy.spike=-1").energy)
    with pytest.raises(ConfigCompositionException, match=r"energy\.memory"):
        config(hydra, "energy.memory=1")


def test_repeats_and_the_search_of_thresholds_and_potentials(hydra: Path) -> None:
    settings = config(hydra, "pipeline=lcp", "pipeline.bias.repeats=2")
    assert instantiate(settings.pipeline).bias == Bias(repeats=2)
    target = "_target_: snn_lightning.NeuronSearch"
    for name, cls in (("lcp", LCP), ("acp", ACP)):
        pipeline = instantiate(config(hydra, f"pipeline={name}", f"pipeline.search={{{target}}}").pipeline)
        assert pipeline == cls(16, search=NeuronSearch())
    values = "{" + target + ", factors: [0.8, 1], potentials: [0.5], images: 32}"
    pipeline = instantiate(config(hydra, "pipeline=lcp_paper", f"pipeline.search={values}").pipeline)
    assert pipeline.search == NeuronSearch((0.8, 1), (0.5,), 32)
    assert repr(pipeline.search) == repr(NeuronSearch((0.8, 1), (0.5,), 32))
    with pytest.raises(InstantiationException, match=r"search must be a step such as NeuronSearch\(\)"):
        instantiate(config(hydra, "pipeline=lcp", "pipeline.search=on").pipeline)


def test_t_and_seed_reach_the_pipeline_and_the_data(hydra: Path) -> None:
    settings = config(hydra, "T=5", "seed=3")
    pipeline = instantiate(settings.pipeline)
    data = instantiate(settings.data).settings
    assert (pipeline.timesteps, pipeline.seed, data.seed, data.calibration_seed) == (5, 3, 3, 3)


def test_augmentation_reaches_the_pipelines_that_calibrate(hydra: Path) -> None:
    assert instantiate(config(hydra, "augment=null").pipeline).augment is None
    settings = "augment={_target_: snn_lightning.Augmentation, flip: false, crop: 0.5}"
    pipeline = instantiate(config(hydra, "pipeline=best", settings).pipeline)
    assert pipeline.augment == Augmentation(flip=False, crop=0.5)
    with pytest.raises(InstantiationException, match=r"augment\.shift must be in \[0, 0\.5\], got 2"):
        instantiate(config(hydra, "augment={_target_: snn_lightning.Augmentation, shift: 2}").pipeline)
    with pytest.raises(InstantiationException, match=r"pipeline\.augment must be an Augmentation, 'auto' or"):
        instantiate(config(hydra, "augment=on").pipeline)


def test_one_ann_for_all_seeds(hydra: Path) -> None:
    overrides = ["model=resnet20", "model.width=4", "trainer.accelerator=cpu", "ann_seed=0"]
    settings = [config(hydra, *overrides, f"seed={seed}") for seed in (0, 3)]
    first, other = (Experiment.compose(one) for one in settings)
    assert first.recipe() == other.recipe()
    pairs = zip(first.module.parameters(), other.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    drawn = [next(iter(one.calibration_images.sample()))[0] for one in (first, other)]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", ["cifar_bn", "cifar_no_bn", "imagenet"])
def test_experiments_go_with_calibrate(hydra: Path, name: str) -> None:
    train = compose("train", [f"experiment={name}"])
    settings = config(hydra, f"experiment={name}", "pipeline=lcp", "T=8")
    for key in ("model", "module", "callbacks"):
        assert settings[key] == train[key]
    assert settings.trainer.max_epochs == train.trainer.max_epochs
    assert OmegaConf.to_container(settings.data, resolve=False) == OmegaConf.to_container(
        train.data, resolve=False
    )
    assert instantiate(settings.pipeline) == LCP(8)


@pytest.mark.parametrize("model", ["retinanet", "faster_rcnn"])
@pytest.mark.parametrize("pipeline", ["baseline_paper", "lcp_paper", "acp_paper"])
def test_table_4_is_on_128_images_and_has_potentials_of_channels(
    hydra: Path, pipeline: str, model: str
) -> None:
    settings = config(hydra, "experiment=pc_table4", f"pipeline={pipeline}", f"model={model}", "T=64")
    assert (settings.network, settings.data.calibration_images) == ("backbone.body", 128)
    assert (settings.model.name, settings.model.backbone, settings.T) == (model, "resnet50", 64)
    found = instantiate(settings.pipeline)
    assert (found.timesteps, found.rounding, found.calibrate_readout) == (64, "bias", False)
    found.check_images(128)
    if pipeline == "acp_paper":
        assert found.potential == Potential(images=128, granularity="channel", shrink=False)
        assert found.weights.images == 128


def test_an_experiment_says_which_part_spikes_and_the_command_line_more(hydra: Path) -> None:
    assert config(hydra, "experiment=shapes_detection").network == "backbone.body"
    settings = config(
        hydra, "experiment=shapes_detection", "network=backbone", "pipeline=least_squares", "T=3"
    )
    assert (settings.network, settings.T) == ("backbone", 3)
    assert instantiate(settings.pipeline).potential == Potential(granularity="channel")
    assert config(hydra, "potential=channel").pipeline.potential.granularity == "channel"


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"trainer={name}"] for name in group("trainer") if name != "gpu"),
        *([f"logger={name}"] for name in group("logger")),
        *([f"callbacks={name}"] for name in group("callbacks") if name != "ema"),
        pytest.param(["callbacks=ema"], marks=needs_averaging),
        *([f"data={name}", "data.num_workers=0"] for name in group("data")),
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_group_composes_into_an_experiment(hydra: Path, overrides: list[str]) -> None:
    if overrides[0] == "data=folder":
        write_image_folder(hydra)
        overrides = [*overrides, "data.image_size=32", f"data_root={hydra}"]
    if overrides[0] == "data=coco":
        write_coco(hydra / "coco")
        overrides = [*overrides, f"data_root={hydra}"]
    settings = config(hydra, "model=resnet20", "model.width=4", *overrides, "trainer.accelerator=cpu")
    with open_dict(settings):
        experiment = Experiment.compose(settings)
    assert experiment.folder == hydra
    assert len(experiment.trainer.loggers) == (overrides[0] != "logger=none")
    assert experiment.module.hparams["num_classes"] == experiment.data.num_classes
    assert experiment.data_name == (
        overrides[0].removeprefix("data=") if "data=" in overrides[0] else "digits"
    )


@pytest.mark.parametrize("name", [name for name in group("model") if name != "regnetx_4gf"])
def test_every_model_goes_with_calibrate(hydra: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm.install(monkeypatch)
    settings = config(hydra, f"model={name}", "trainer.accelerator=cpu", "logger=none")
    experiment = Experiment.compose(settings)
    assert experiment.recipe()["model"] == OmegaConf.to_container(settings.model, resolve=True)


@pytest.mark.parametrize(
    "key",
    [
        "foo",
        "pipeline.foo",
        "pipeline.weights.foo",
        "threshold.foo",
        "neuron.foo",
        "data.foo",
        "module.foo",
        "trainer.foo",
    ],
)
def test_unknown_keys_fail(hydra: Path, key: str) -> None:
    with pytest.raises(ConfigCompositionException, match="Could not override"):
        config(hydra, f"{key}=1")


@pytest.mark.parametrize(
    "key",
    [
        "pipeline",
        "pipeline.weights",
        "pipeline.potential",
        "threshold",
        "neuron",
        "data",
        "module",
        "trainer",
    ],
)
def test_added_keys_fail_too(hydra: Path, key: str) -> None:
    settings = config(hydra, f"+{key}.foo=1", "trainer.accelerator=cpu")
    with pytest.raises((InstantiationException, TypeError), match="foo"):  # noqa: PT012
        instantiate(settings.pipeline)
        Experiment.compose(settings)


@functools.cache
def recipe(*overrides: str) -> dict:
    """What decides about the pretraining of a small ANN, where Hydra is ready to compose."""
    base = ["model=resnet20", "model.width=4", "trainer.accelerator=cpu"]
    return Experiment.compose(config(Path("unused"), *base, *overrides)).recipe()


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("T=4", True),
        ("pipeline=lcp", True),
        ("threshold=max", True),
        ("neuron=signed", True),
        ("data.calibration_images=64", True),
        ("data.test_images=10", True),
        ("logger=none", True),
        ("trainer.devices=2", True),
        ("seed=1", False),
        ("model.width=8", False),
        ("activation=qcfs", False),
        ("module.learning_rate=0.1", False),
        ("data.augment=false", False),
        ("data.train_images=500", False),
        ("trainer.max_epochs=5", False),
        pytest.param("callbacks=ema", False, marks=needs_averaging),
    ],
)
def test_a_pretrained_ann_is_shared_by_what_does_not_change_it(change: str, same: bool) -> None:
    assert (recipe() == recipe(change)) == same


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_learning_rates_are_followed_where_there_is_a_logger(hydra: Path, logger: str) -> None:
    settings = config(hydra, "model=resnet20", "model.width=4", "trainer.accelerator=cpu", f"logger={logger}")
    callbacks = Experiment.compose(settings).trainer.callbacks
    assert any(isinstance(part, LearningRateMonitor) for part in callbacks) == (logger == "csv")


@pytest.mark.parametrize("field", ["max_epochs", "max_steps"])
def test_random_weights_that_nothing_trains_are_refused(hydra: Path, field: str) -> None:
    settings = config(hydra, "model=resnet20", "model.width=4", "trainer.accelerator=cpu")
    with open_dict(settings):
        settings.trainer[field] = 0
    with pytest.raises(SettingsError, match=rf"trainer\.{field}=0 trains nothing, .*resnet20 has no .*ckpt="):
        Experiment.compose(settings).pretrain()


def test_a_part_that_there_is_not_is_named(hydra: Path) -> None:
    settings = config(hydra, "model=resnet20", "model.width=4", "trainer.accelerator=cpu", "network=stem.rel")
    with pytest.raises(SettingsError, match=r"unknown network \(a part of \w+\): 'stem.rel'"):
        _ = Experiment.compose(settings).network
