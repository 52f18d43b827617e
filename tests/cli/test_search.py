"""calibrate.py max_drop=...: the search on the validation images, and what it leaves."""

import csv
import json
from pathlib import Path

import pytest
import torch

from snn_lightning import load_converted
from snn_lightning.data import Digits
from snn_lightning.report.compare import find_runs
from tests.commands import BASELINE, Finished, run
from tests.report.support import rows, words

BASE = [part for part in BASELINE if part != "T=2"]
SEARCH = ["candidates.T=[4,2]", "candidates.pipeline=[lcp,baseline]"]


def accuracy(path: Path, part: str) -> float:
    loader = getattr(Digits(test_images=120), f"{part}_dataloader")()
    snn = load_converted(path)
    with torch.no_grad():
        right = torch.cat([snn(x).argmax(-1) == y for x, y in loader])
    return right.double().mean().item()


@pytest.fixture(scope="module")
def missed(calibrated: Finished, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A search for what there is not."""
    files = ["report=true", "logger=csv"]
    return run(tmp_path_factory.mktemp("missed"), *BASE, *files, *SEARCH, "max_drop=0", cache=cache)


def test_a_budget_that_is_missed_fails_with_all_results(missed: Finished) -> None:
    assert missed.code == 1
    results, last = missed.results, missed.output.splitlines()[-1]
    tried = [(trial["timesteps"], trial["pipeline"], trial["neuron"]) for trial in results["trials"]]
    assert tried == [(2, "baseline", "if"), (2, "lcp", "if"), (4, "baseline", "if"), (4, "lcp", "if")]
    best = min(results["trials"], key=lambda trial: trial["drop"])
    assert last.startswith("Error: No candidate loses 0 points or less. The best is ")
    assert f"T={best['timesteps']}, which loses {best['drop']:.2f}. Try more time steps" in last
    assert not results["met"]
    assert not any(trial["met"] for trial in results["trials"])
    assert (results["timesteps"], results["pipeline"]) == (best["timesteps"], best["pipeline"])
    config = results["config"]
    assert (config["T"], config["pipeline_name"]) == (best["timesteps"], best["pipeline"])
    assert config["pipeline"]["_target_"].rpartition(".")[2].lower() == best["pipeline"]
    assert (missed.folder / "report.html").exists()


def test_what_is_scored_where(missed: Finished) -> None:
    """Validation images in the search, and test images once at the end."""
    results, path = missed.results, missed.folder / "snn.ckpt"
    best = min(results["trials"], key=lambda trial: trial["drop"])
    assert best["score"] == pytest.approx(accuracy(path, "val"), abs=1e-6)
    assert results["snn_accuracy"] == pytest.approx(accuracy(path, "test"), abs=1e-6)
    assert len(results["accuracy_over_time"]) == results["timesteps"]
    phases = ["pretrain", "ann_test", "ann_validation", "search", "calibration", "uncalibrated_test"]
    assert list(results["seconds"]) == [*phases, "snn_test"]
    assert results["seconds"]["calibration"] == pytest.approx(best["seconds"], abs=0.01)
    assert missed.output.count("Testing the SNN, T=") == 1
    assert 0 < results["uncalibrated_accuracy"] < results["ann_accuracy"]
    # The search logs the stages of the best, and nothing else: test scores are those of the ANN and two SNNs.
    (log,) = missed.folder.rglob("metrics.csv")
    logged = list(csv.DictReader(log.open()))
    assert sum(bool(row.get("test/acc")) for row in logged) == 3
    names = [row["calibration/name"] for row in logged if row["calibration/stage"]]
    assert names == [stage["name"] for stage in results["stages"]]


def test_the_files_of_a_search(missed: Finished) -> None:
    trials = missed.results["trials"]
    written = list(csv.DictReader((missed.folder / "search.csv").open()))
    assert [float(row["drop"]) for row in written] == [trial["drop"] for trial in trials]
    assert (missed.folder / "search.svg").read_text().startswith("<?xml")
    assert (missed.folder / "search.png").exists()
    assert [float(row["loses, points"]) for row in rows(missed.folder, "search")] == [
        trial["drop"] for trial in trials
    ]
    page = words(missed.folder / "report.html")
    assert "Wanted: an SNN that loses 0 points at most on the validation images. There is none." in page
    found, _ = find_runs([missed.folder])
    assert [one.results["timesteps"] for one in found] == [missed.results["timesteps"]]


def test_another_budget_takes_up_the_trials(missed: Finished, cache: Path, tmp_path: Path) -> None:
    drops = [trial["drop"] for trial in missed.results["trials"]]
    done = run(tmp_path, *BASE, *SEARCH, f"max_drop={max(drops)}", "unit_spikes=true", cache=cache)
    assert done.code == 0, done.output
    assert "Trying" not in done.output
    assert "in an earlier run" in done.output
    results = done.results
    assert results["met"]
    assert results["trials"] == [{**missed.results["trials"][0], "met": True}]
    assert f"Within {max(drops):g} points: baseline, if, T=2" in done.output
    assert len(results["stages"]) == len(missed.results["stages"])
    thresholds = [value for key, value in done.state.items() if key.endswith(".v_th")]
    assert all((value == 1).all() for value in thresholds)


def test_the_same_search_is_the_same_snn(missed: Finished, cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *BASE, *SEARCH, "max_drop=0", cache=cache)
    assert done.code == 1
    assert "Trying" not in done.output
    assert "again" not in done.output
    assert done.results["trials"] == missed.results["trials"]
    assert json.dumps(done.results["stages"]) == json.dumps(missed.results["stages"])
    assert all(torch.equal(value, missed.state[key]) for key, value in done.state.items())


def test_a_part_by_energy_with_other_neurons(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    overrides = ["network=features", "max_drop=100", "objective=energy", "candidates.neuron=[if,signed]"]
    done = run(tmp_path, *BASE, *overrides, "candidates.T=[1,2]", cache=cache)
    assert done.code == 0, done.output
    trials = done.results["trials"]
    assert [(trial["neuron"], trial["timesteps"]) for trial in trials] == [("if", 1), ("signed", 1)]
    least = min(trials, key=lambda trial: trial["energy_ratio"])
    snn = load_converted(tmp_path / "snn.ckpt")
    assert type(snn.neuron).__name__.lower() == least["neuron"]
    assert snn.timesteps == done.results["timesteps"] == done.results["config"]["T"] == 1
    # The config is that of the SNN.
    assert done.results["config"]["neuron"]["_target_"] == f"snn_lightning.{type(snn.neuron).__name__}"


def test_a_job_of_a_sweep_that_misses_its_budget_fails_alone(
    missed: Finished, cache: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "-m", *BASE, *SEARCH, "max_drop=0.001,100", cache=cache)
    assert done.code != 0
    assert "This job failed: No candidate loses 0.001 points or less." in done.output
    assert "points: more than max_drop=0.001. Raise data.val_fraction" in done.output
    met = [json.loads(path.read_text())["met"] for path in sorted(tmp_path.glob("*/results.json"))]
    assert met == [False, True]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["max_drop=-1"], "max_drop must be a number of percentage points of at least 0, got -1"),
        (["max_drop=1", "objective=time"], "objective must be one of timesteps, energy, seconds, got 'time'"),
        (
            ["max_drop=1", "T=4"],
            "max_drop looks for T, and T=4 is given: leave T out, or set candidates.T=[4]",
        ),
        (["objective=energy"], "objective is of a search: set max_drop too, or leave objective out"),
        (["candidates.T=[4]"], "candidates.T is of a search: set max_drop too"),
        (["max_drop=1", "candidates.T=[]"], "candidates.T must be a list with at least one value, got []"),
        (["max_drop=1", "candidates.T=[0]"], "timesteps (T) must be a whole number of at least 1, got 0"),
        (["max_drop=1", "candidates.T=[2,2]"], "candidates has baseline, if, T=2 twice"),
        (["max_drop=1", "candidates.pipeline=[nothing]"], "pipeline=nothing can't be composed"),
        (["max_drop=1", "candidates.pipeline=[opt]"], "pipeline=opt has another model than this run"),
        (["max_drop=1", "trainer.devices=2"], "max_drop searches on one process: set trainer.devices=1"),
        (["max_drop=1", "optimized_metric=seconds.finetune"], "seconds.search"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(tmp_path: Path, overrides: list[str], message: str) -> None:
    done = run(tmp_path, *BASE, *overrides, cache=tmp_path / "cache")
    assert done.code == 1
    assert message in done.output
    assert "Pretraining" not in done.output


def test_an_snn_is_no_starting_point(calibrated: Finished, tmp_path: Path) -> None:
    ckpt = calibrated.folder / "snn.ckpt"
    done = run(tmp_path, "trainer=cpu", f"ckpt={ckpt}", "max_drop=1", cache=tmp_path / "cache")
    assert done.code == 1
    assert f"max_drop starts from an ANN, and ckpt={ckpt} holds an SNN: leave one out" in done.output


def test_data_without_validation_images(
    calibrated: Finished, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits, "val_dataloader", lambda self: None)
    done = run(tmp_path, *BASE, "max_drop=1", cache=cache)
    assert done.code == 1
    assert "max_drop needs validation images, and digits has none: raise data.val_fraction" in done.output
