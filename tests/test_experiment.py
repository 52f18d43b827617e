"""train.py and calibrate.py from the command line to the files they leave."""

import shutil
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from snn_lightning import load_converted
from snn_lightning.data import Digits
from snn_lightning.spiking.checkpoint import KEY
from snn_lightning.training import ClassificationModule
from tests.commands import ACP, BASELINE, MODEL, QUIET_ACP, ROOT, STAGES, Finished, in_new_process, run

REUSED = "Using the ANN pretrained earlier"


def images_of_the_test() -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(Digits(test_images=120).test_dataloader())
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return (logits.argmax(-1) == y).double().mean().item()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def thresholds(done: Finished) -> list[torch.Tensor]:
    return [value for key, value in done.state.items() if key.endswith(".v_th")]


def test_train_leaves_results_and_a_pretrained_ann(trained: Finished, cache: Path) -> None:
    assert trained.code == 0, trained.output
    assert "Pretraining vgg16_bn on digits" in trained.output
    assert REUSED not in trained.output
    results = trained.results
    assert Path(results["checkpoint"]).parent == cache
    module = ClassificationModule.load_from_checkpoint(results["checkpoint"]).eval()
    x, y = images_of_the_test()
    with torch.no_grad():
        logits = module(x)
    assert cross_entropy(logits, y) < 1.5
    assert results["ann_accuracy"] == pytest.approx(accuracy(logits, y), abs=1e-6)
    assert results["ann_accuracy"] > 0.7
    assert list(results["seconds"]) == ["pretrain", "ann_test"]
    assert "snn_accuracy" not in results


def test_results_of_a_calibration(calibrated: Finished, trained: Finished) -> None:
    assert calibrated.code == 0, calibrated.output
    results = calibrated.results
    assert results["ann_accuracy"] == trained.results["ann_accuracy"]
    assert (results["model"], results["data"], results["pipeline"]) == ("vgg16_bn", "digits", "acp")
    assert (results["timesteps"], results["latency_steps"], results["seed"]) == (2, 2, 0)
    assert len(results["accuracy_over_time"]) == 2
    assert results["accuracy_over_time"][-1] == results["snn_accuracy"]
    assert 0.1 < results["uncalibrated_accuracy"] < results["snn_accuracy"] < results["ann_accuracy"]
    neurons = load_converted(calibrated.folder / "snn.ckpt").spikes(images_of_the_test()[0][:1])
    count = sum(train[0, 0].numel() for train in neurons.values())
    # Values of the file are rounded.
    assert results["spikes_per_image"] == pytest.approx(2 * count * results["firing_rate"], rel=1e-3)
    assert results["synaptic_operations"] > results["spikes_per_image"] > 0
    assert 0 < results["energy_ratio"] < results["energy_ratio_zero_skipping"] < 4
    steps = ["observe", "threshold", "weights", "potential", "fire"]
    assert list(results["seconds_by_step"]) == steps
    for step, seconds in results["seconds_by_step"].items():
        stages = [stage["seconds_by_step"].get(step, 0.0) for stage in results["stages"]]
        assert seconds == pytest.approx(sum(stages), abs=1e-4)
    assert sum(results["seconds_by_step"].values()) < results["seconds"]["calibration"]
    phases = ["pretrain", "ann_test", "uncalibrated_test", "calibration", "snn_test"]
    assert list(results["seconds"]) == phases
    assert all(seconds >= 0 for seconds in results["seconds"].values())
    assert results["config"]["pipeline"]["weights"]["iterations"] == 3
    assert len(results["stages"]) == STAGES
    for stage in results["stages"]:
        kind = {"weights", "potential"} | ({"threshold"} if stage["kind"] == "neuron" else set())
        assert set(stage["steps"]) == kind
    assert results["checkpoint"] == trained.results["checkpoint"]
    assert REUSED in calibrated.output


def test_bytes_of_a_calibration(calibrated: Finished) -> None:
    """Against the tensors of the checkpoint."""
    found, tensors = calibrated.results["parameter_bytes"], calibrated.state

    def nbytes(*ends: str) -> list[int]:
        return [4 * value.numel() for name, value in tensors.items() if name.endswith(ends)]

    weights = nbytes(".weight")
    kept = [stage["steps"]["weights"]["kept"] > 0 for stage in calibrated.results["stages"]]
    assert len(weights) == len(kept) == STAGES
    assert found == {
        "thresholds": sum(nbytes(".v_th")),
        "biases": 4 * 10,  # of the readout
        "potentials": sum(nbytes(".v_init")),
        "weights": sum(n for n, changed in zip(weights, kept, strict=True) if changed),
    }


def test_what_a_user_sees(calibrated: Finished) -> None:
    shown = [
        "Pretraining vgg16_bn on digits",
        "Testing the ANN",
        "Testing the uncalibrated SNN, T=2",
        "Converted: 13 sites are IF() neurons, nothing left analog; T=2, uncalibrated",
        "Calibrating the SNN, pipeline acp, T=2",
        *(f"[{stage:>3}/{STAGES}] " for stage in range(1, STAGES + 1)),
        "Testing the SNN, T=2",
        "ANN accuracy",
        "uncalibrated SNN accuracy, T=2",
        "SNN accuracy, T=2",
        "spikes an image",
        "synaptic operations an image",
        "estimated energy, of the ANN's",
        "estimated energy, of a zero-skipping ANN's",
        "SNN accuracy after t=1",
        "SNN accuracy after t=2",
        "seconds, calibration",
        f"Results: {calibrated.folder}",
    ]
    places = [calibrated.output.find(text) for text in shown]
    assert -1 not in places, shown[places.index(-1)]
    assert places == sorted(places)
    for noise in ("Warning", "warn", "LeafSpec", "Traceback", "GPU available", "💡"):
        assert noise not in calibrated.output


def test_the_snn_loads_in_every_way_and_is_the_one_that_was_tested(calibrated: Finished) -> None:
    path = calibrated.folder / "snn.ckpt"
    spec = torch.load(path, weights_only=True)[KEY]["spec"]
    assert (spec["status"], spec["conversion"]["timesteps"]) == ("calibrated", 2)
    x, y = images_of_the_test()
    with torch.no_grad():
        snn = load_converted(path)
        module = ClassificationModule.load_from_checkpoint(path).eval()
        readout = snn.running_mean(x)
        assert torch.equal(module.net(x), snn(x))
        assert torch.equal(readout[-1], snn(x))
    assert same(snn.state_dict(), {key.removeprefix("net."): v for key, v in calibrated.state.items()})
    over_time = [accuracy(logits, y) for logits in readout]
    assert calibrated.results["accuracy_over_time"] == pytest.approx(over_time, abs=1e-6)


def test_the_checkpoint_of_an_snn_is_only_tested(calibrated: Finished, tmp_path: Path) -> None:
    ckpt = calibrated.folder / "snn.ckpt"
    # Another model in the config, since the checkpoint says which it is.
    overrides = ["model=resnet20", "trainer=cpu", "data.test_images=120", f"ckpt={ckpt}"]
    done = run(tmp_path / "run", *overrides, cache=tmp_path / "cache")
    assert done.code == 0, done.output
    assert "Pretraining" not in done.output
    assert "Calibrating" not in done.output
    assert not (tmp_path / "cache").exists()
    for key in ("snn_accuracy", "accuracy_over_time", "energy_ratio", "timesteps", "model"):
        assert done.results[key] == calibrated.results[key]
    assert "ann_accuracy" not in done.results
    assert not (done.folder / "snn.ckpt").exists()


def test_the_same_command_gives_the_same_result_from_the_pretraining_on(
    calibrated: Finished, trained: Finished, tmp_path: Path
) -> None:
    done = run(tmp_path / "run", *QUIET_ACP, cache=tmp_path / "cache")
    assert REUSED not in done.output
    assert same(done.state, calibrated.state)
    (ann,) = (tmp_path / "cache").glob("*.ckpt")
    before = torch.load(trained.results["checkpoint"], weights_only=True)["state_dict"]
    assert same(torch.load(ann, weights_only=True)["state_dict"], before)
    keys = ("ann_accuracy", "uncalibrated_accuracy", "snn_accuracy", "accuracy_over_time")
    assert [done.results[key] for key in keys] == [calibrated.results[key] for key in keys]


def test_another_seed_gives_another_ann(tmp_path: Path) -> None:
    overrides = [*MODEL, "data.test_images=120", "trainer.max_epochs=1", "data.train_images=128"]
    overrides += ["data.calibration_images=32", "logger=none"]
    weights = []
    for seed in (3, 4):
        done = run(tmp_path, *overrides, f"seed={seed}", cache=tmp_path / "cache", script="train.py")
        assert done.code == 0, done.output
        assert REUSED not in done.output
        state = torch.load(done.results["checkpoint"], weights_only=True)["state_dict"]
        weights.append(state["net.features.0.weight"])
    assert not torch.equal(*weights)


def test_unit_spikes_and_the_ann_is_left_alone(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    ann = Path(calibrated.results["checkpoint"])
    modified = ann.stat().st_mtime_ns
    done = run(tmp_path, *ACP, "unit_spikes=true", cache=cache)
    assert done.code == 0, done.output
    assert f"{REUSED}: {ann}" in done.output
    assert ann.stat().st_mtime_ns == modified
    assert len(thresholds(done)) == STAGES - 1
    assert all((v_th == 1).all() for v_th in thresholds(done))
    assert not any((v_th == 1).all() for v_th in thresholds(calibrated))
    x, _ = images_of_the_test()
    with torch.no_grad():
        rescaled, plain = (load_converted(f.folder / "snn.ckpt")(x) for f in (done, calibrated))
    # A rounding at a threshold may move a spike, in a few images at most.
    assert ((rescaled - plain).abs() < 1e-4).all(1).double().mean() > 0.95
    assert done.results["snn_accuracy"] == pytest.approx(calibrated.results["snn_accuracy"], abs=0.03)
    # Its activations have another scale than the ANN's.
    numbers = {path.name for path in (calibrated.folder / "report").iterdir()}
    missing = {f"{chart}.{kind}" for chart in ("mismatch", "sites") for kind in ("csv", "png")}
    assert {path.name for path in (done.folder / "report").iterdir()} == numbers - missing


@pytest.mark.parametrize("form", ["lightning", "state_dict"])
def test_an_ann_from_a_file(calibrated: Finished, tmp_path: Path, form: str) -> None:
    ckpt = tmp_path / "ann.pt"
    if form == "lightning":
        shutil.copy(calibrated.results["checkpoint"], ckpt)
    else:
        module = ClassificationModule.load_from_checkpoint(calibrated.results["checkpoint"])
        torch.save(module.net.state_dict(), ckpt)
    done = run(tmp_path / "run", *QUIET_ACP, f"ckpt={ckpt}", cache=tmp_path / "cache")
    assert done.code == 0, done.output
    assert "Pretraining" not in done.output
    assert not list((tmp_path / "cache").glob("*.ckpt"))
    assert done.results["checkpoint"] == str(ckpt)
    assert done.results["ann_accuracy"] == calibrated.results["ann_accuracy"]
    assert same(done.state, calibrated.state)


def neurons(done: Finished, name: str) -> list[torch.Tensor]:
    """The buffers of this name of all neurons, in the order of their thresholds."""
    units = [key.removesuffix("v_th") for key in done.state if key.endswith(".v_th")]
    return [done.state[unit + name] for unit in units]


def test_rounding_floor_and_a_threshold_for_each_layer(
    calibrated: Finished, cache: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, *BASELINE, "pipeline.rounding=floor", "threshold.granularity=layer", cache=cache)
    assert done.code == 0, done.output
    assert all((value == 0).all() for name in ("v_init", "bias") for value in neurons(done, name))
    assert all(v_th.shape == () for v_th in thresholds(done))


def test_rounding_in_the_bias_and_percentile_thresholds(
    calibrated: Finished, cache: Path, tmp_path: Path
) -> None:
    overrides = ["pipeline.rounding=bias", "threshold=percentile", "threshold.percentile=90"]
    done = run(tmp_path, *BASELINE, *overrides, cache=cache)
    assert done.code == 0, done.output
    assert all((v_init == 0).all() for v_init in neurons(done, "v_init"))
    for v_th, bias in zip(thresholds(done), neurons(done, "bias"), strict=True):
        assert torch.equal(bias, v_th / 4)
    largest = [stage["threshold"][1] for stage in done.results["stages"] if stage["threshold"]]
    done = run(tmp_path, *BASELINE, "threshold=max", cache=cache)
    maxima = [stage["threshold"][1] for stage in done.results["stages"] if stage["threshold"]]
    assert all(a < b for a, b in zip(largest, maxima, strict=True))


def test_average_pooling_with_neurons_of_its_own(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *BASELINE, "pipeline.convert_avg_pool=true", cache=cache)
    assert done.code == 0, done.output
    spec = torch.load(done.folder / "snn.ckpt", weights_only=True)[KEY]["spec"]
    assert "AvgPool" not in str(spec)
    assert len(done.stage_lines) == len(thresholds(done)) + 1 > STAGES


def test_a_dry_run_reports_and_does_nothing(tmp_path: Path) -> None:
    overrides = ["model=torchvision", "model.name=resnet18", "data.image_size=64", "dry_run=true"]
    done = run(tmp_path / "run", *overrides, "trainer=cpu", cache=tmp_path / "cache")
    assert done.code == 0, done.output
    assert "Convertible: 17 sites become neurons, nothing left analog" in done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["maxpool", "gate", "maxpool", "-"] in lines
    # The second call of a shared ReLU is a site of its own.
    assert ["layer4_1_relu_1", "neuron", "layer4.1.relu", "2,048", "Conv2d,", "Add"] in lines
    assert sum(line[1] == "neuron" for line in lines[1:]) == 17
    # What it would cost, and how long it would take, before anything is done.
    assert "256 images at T=16" in done.output
    assert next(line for line in lines if line[0] == "total")[1:3] == ["142", "M"]
    assert "Cache at its peak: " in done.output
    phases = ("Calibration, simulate", "Calibration, weights", "Testing, ANN", "Testing, SNN")
    for phase in phases:
        (line,) = (line for line in done.output.splitlines() if line.strip().startswith(phase))
        assert float(line.removeprefix(f"  {phase}").split()[0]) > 0
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run" / "results.json").exists()


def test_two_processes_give_the_snn_of_one(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    processes = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    overrides = [o for o in QUIET_ACP if o != "trainer=cpu"] + processes
    folders = [f"cache_dir={cache}", f"hydra.run.dir={tmp_path}"]
    done = in_new_process(ROOT / "calibrate.py", tmp_path, *overrides, *folders)
    assert done.code == 0, done.output
    assert REUSED in done.output
    assert len(done.stage_lines) == STAGES  # printed by one of them
    assert done.output.count("ANN accuracy") == 1
    assert done.state.keys() == calibrated.state.keys()
    for key, value in done.state.items():
        torch.testing.assert_close(value, calibrated.state[key], rtol=0, atol=1e-5)
    assert done.results["snn_accuracy"] == pytest.approx(calibrated.results["snn_accuracy"], abs=0.02)
