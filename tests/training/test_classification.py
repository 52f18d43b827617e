import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from snn_lightning import convert
from snn_lightning.errors import SettingsError
from snn_lightning.training import ClassificationModule
from snn_lightning.training.task import cosine_factor, doubling

SMALL = {"name": "resnet20", "width": 4}


def module(**settings) -> ClassificationModule:
    return ClassificationModule({**SMALL}, 4, 1, 8, **settings)


def trainer(folder: Path, **settings) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(default_root_dir=folder, accelerator="cpu", **{"max_epochs": 2, **quiet, **settings})


def loader(count: int = 64) -> DataLoader:
    y = torch.arange(count) % 4
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    x[torch.arange(count), 0, y] += 2
    return DataLoader(TensorDataset(x, y), batch_size=16)


def test_cosine_factor_by_hand() -> None:
    assert [cosine_factor(s, 4) for s in range(5)] == pytest.approx(
        [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]
    )
    assert [cosine_factor(s, 6, 2) for s in range(7)] == pytest.approx(
        [0.5, 1, 1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]
    )
    assert cosine_factor(9, 4) == 0


def test_a_fit_learns_logs_and_ends_at_a_learning_rate_of_zero(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = module(learning_rate=0.1, weight_decay=1e-4, momentum=0.8)
    run = trainer(tmp_path, max_epochs=6)
    run.fit(net, loader(), loader(32))
    assert {"train/loss", "train/acc", "val/acc"} <= set(run.callback_metrics)
    assert run.callback_metrics["val/acc"] > 0.9
    group = run.optimizers[0].param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["initial_lr"]) == (0.8, 1e-4, 0.1)
    assert group["lr"] == pytest.approx(0, abs=1e-9)
    result = run.test(net, loader(32), verbose=False)[0]
    with torch.no_grad():
        x, y = loader(32).dataset.tensors
        expected = (net.eval()(x).argmax(1) == y).float().mean().item()
    assert result["test/acc"] == pytest.approx(expected)
    assert net.scores == {"accuracy": pytest.approx(expected)}
    assert net.scores_over_time == {}


def test_label_smoothing_changes_the_loss_as_it_should() -> None:
    x, y = next(iter(loader()))
    losses = {}
    for share in (0.0, 0.2):
        torch.manual_seed(0)
        net = module(label_smoothing=share)
        net.log = lambda *args, **kwargs: None
        losses[share] = net.training_step((x, y), 0).item()
        with torch.no_grad():
            log_p = net(x).log_softmax(1)
    uniform = -log_p.mean().item()
    assert losses[0.2] == pytest.approx(0.8 * losses[0.0] + 0.2 * uniform, rel=1e-4)


def test_warmup_lasts_so_many_epochs(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    net = module(warmup_epochs=1)
    run.fit(net, loader())
    factor = run.lr_scheduler_configs[0].scheduler.lr_lambdas[0]
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factor(8) == 0


def test_training_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer\.max_epochs"):
        trainer(tmp_path, max_epochs=-1).fit(module(), loader())


def test_a_checkpoint_is_plain_and_rebuilds_the_module(tmp_path: Path) -> None:
    config = OmegaConf.create({"model": {"name": "resnet20", "width": "${size}"}, "size": 4}).model
    net = ClassificationModule(config, 4, 1, 8, learning_rate=0.07)
    run = trainer(tmp_path)
    run.fit(net, loader())
    path = tmp_path / "ann.ckpt"
    run.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["model"] == {"name": "resnet20", "width": 4}
    assert type(content["hyper_parameters"]["model"]) is dict
    back = ClassificationModule.load_from_checkpoint(path, weights_only=True)
    assert back.hparams["learning_rate"] == 0.07
    x, _ = next(iter(loader()))
    with torch.no_grad():
        assert torch.equal(back.eval()(x), net.eval()(x))
    assert all(key.startswith("net.") for key in content["state_dict"])


@pytest.mark.parametrize(
    ("width", "wanted", "innermost"), [(8, True, True), (8, False, False), (4, True, False)]
)
def test_channels_last_reaches_the_network(width: int, wanted: bool, innermost: bool) -> None:
    # With a width of 4 the shortcuts' gradients would overrun oneDNN's buffer.
    net = ClassificationModule({**SMALL, "width": width}, 4, 3, 8, channels_last=wanted)
    seen: list[Tensor] = []
    net.net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    net.eval()(torch.zeros(2, 3, 8, 8))
    filters = next(m for m in net.net.modules() if isinstance(m, nn.Conv2d)).weight
    for tensor in (filters, seen[0]):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == innermost


def early(x: Tensor) -> Tensor:
    """Read out the row sums after the first step and nothing but class 0 before."""
    rows = x[:, 0, :4].sum(-1)
    first = torch.zeros_like(rows)
    first[:, 0] = 1
    return torch.stack([first, rows, rows])


def test_a_spiking_network_gives_the_accuracy_over_time(tmp_path: Path) -> None:
    net = module()
    net.net = convert(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU()), torch.rand(2, 1, 8, 8), timesteps=3
    )
    net.net.running_mean = early
    run = trainer(tmp_path)
    for _ in range(2):  # a second test starts from zero
        result = run.test(net, loader(32), verbose=False)[0]
        assert result["test/acc"] == 1.0
        assert net.times == [1, 2, 3]
        assert net.scores_over_time == {"accuracy": [0.25, 1.0, 1.0]}
    net.net = module().net
    run.test(net, loader(32), verbose=False)
    assert net.scores_over_time == {}


def test_a_spiking_part_is_read_while_the_rest_of_the_network_runs(tmp_path: Path) -> None:
    net = module()
    x, y = loader(32).dataset.tensors
    part = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    snn = convert(part, x, timesteps=3)
    net.net = nn.Sequential(snn, nn.Softmax(1))
    trainer(tmp_path).test(net, loader(32), verbose=False)
    over_time = [(mean.argmax(1) == y).float().mean().item() for mean in snn.running_mean(x)]
    assert net.times == [1, 2, 3]
    assert net.scores_over_time == {"accuracy": pytest.approx(over_time)}


def test_what_a_test_simulates() -> None:
    """8 time steps at once, or 1, 2, 4 and 8 one after the other."""
    assert module().simulations(8, whole=True) == 1
    assert module().simulations(8, whole=False) == 15 / 8


@pytest.mark.parametrize(("timesteps", "times"), [(1, [1]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])])
def test_time_steps_double(timesteps: int, times: list[int]) -> None:
    assert doubling(timesteps) == times


@pytest.mark.parametrize(
    ("model", "settings", "part"),
    [
        (SMALL, {"learning_rate": -1.0}, "module.learning_rate"),
        ({"width": 4}, {}, "model.name"),
        ({**SMALL, "widht": 3}, {}, "did you mean 'width'"),
        ({"name": "resnet20", "width": object()}, {}, "model.width"),
    ],
)
def test_bad_settings_are_named(model: dict, settings: dict, part: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ClassificationModule(model, 4, 1, 8, **settings)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([{"boxes": torch.zeros(0, 4)}], r"gives boxes \(module=detection\)"),
        (torch.zeros(1, 8, 8, dtype=torch.int64), r"gives masks \(module=segmentation\)"),
    ],
)
def test_targets_of_other_tasks_are_named(targets: object, message: str) -> None:
    made, x = module(), torch.rand(1, 1, 8, 8)
    with pytest.raises(SettingsError, match=f"needs one label an image, and the loader {message}"):
        made.training_step((x, targets), 0)
    with pytest.raises(SettingsError, match=message):
        made.check_batch(((list(x) if isinstance(targets, list) else x), targets))
    made.check_batch((x, torch.zeros(1)))
