"""calibrate.py leaves a page about the SNN beside its results, and never loses them over it."""

from pathlib import Path

import pytest

from snn_lightning.cli import outputs
from tests.commands import ACP, BASELINE, STAGES, Finished, run
from tests.report.support import column, rows, words


def test_the_page_of_a_calibration(calibrated: Finished) -> None:
    folder, results = calibrated.folder, calibrated.results
    assert f"Report: {folder / 'report.html'}" in calibrated.output
    page = words(folder / "report.html")
    assert page.startswith(
        f"vgg16_bn on digits pipeline acp, T=2, {STAGES - 1} sites are IF() neurons, calibrated"
    )
    for key in ("ann_accuracy", "uncalibrated_accuracy", "snn_accuracy", "energy_ratio"):
        assert f"{100 * results[key]:.2f} %" in page
    assert f"python calibrate.py {' '.join(ACP)} cache_dir=" in page
    assert results["command"] in page
    assert "The calibration set is small: 32 images." in page
    assert column(folder, "accuracy_over_time", "SNN") == results["accuracy_over_time"]
    assert column(folder, "errors", "after") == column(folder, "mismatch", "total")
    assert all(error is not None for error in column(folder, "errors", "before"))
    assert sum(float(row["spikes"]) for row in rows(folder, "energy")) == pytest.approx(
        results["spikes_per_image"], abs=0.01
    )
    assert column(folder, "seconds_by_phase", "seconds") == list(results["seconds"].values())
    assert len(rows(folder, "mismatch")) == STAGES


def test_the_page_of_a_checkpoint(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    ckpt = calibrated.folder / "snn.ckpt"
    done = run(tmp_path, "trainer=cpu", "data.test_images=120", f"ckpt={ckpt}", cache=cache)
    assert done.code == 0, done.output
    page = words(tmp_path / "report.html")
    assert page.startswith(
        f"vgg16_bn on digits T=2, {STAGES - 1} sites are IF() neurons, calibrated accuracy"
    )
    assert "checkpoints don't keep it" in page
    assert "Not measured: it takes the ANN and images" in page
    assert rows(tmp_path, "firing_rates") == rows(calibrated.folder, "firing_rates")
    # Where the ANN's activations were zero only the calibration knew.
    skipping = "zero-skipping ANN, µJ"
    found, known = (rows(folder, "energy") for folder in (tmp_path, calibrated.folder))
    assert [row | {skipping: ""} for row in found] == [row | {skipping: ""} for row in known]


def test_the_prices_of_energy(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    ckpt, old = calibrated.folder / "snn.ckpt", calibrated.results
    prices = ["energy.mac=9.2", "energy.ac=1.8", "energy.weight=5"]
    given = ["trainer=cpu", "data.test_images=120", f"ckpt={ckpt}", *prices]
    done = run(tmp_path, *given, cache=cache)
    assert done.code == 0, done.output
    kept = {"_target_": "snn_lightning.EnergyModel", "mac": 9.2, "ac": 1.8, "spike": 0.0, "weight": 5}
    assert done.results["config"]["energy"] == kept
    # The ANN's energy at the default prices, from which that at these ones follows.
    added = done.results["synaptic_operations"]
    assert added == old["synaptic_operations"]
    snn, ann = (sum(column(calibrated.folder, "energy", f"{of}, µJ")) for of in ("SNN", "ANN"))
    multiplied = (1e6 * snn - 0.9 * added) / 4.6
    ratio = (6.8 * added + 14.2 * multiplied) / (14.2 * 1e6 * ann / 4.6)
    assert done.results["energy_ratio"] == pytest.approx(ratio, rel=1e-3)
    page = words(tmp_path / "report.html")
    assert "Prices: 1.8 pJ an accumulate, 9.2 pJ a MAC, 5 pJ a weight." in page
    assert "energy.weight 5" in page
    wrong = run(tmp_path / "wrong", *given, "energy.spike=-1", cache=cache)
    assert "energy.spike must be a number of pJ of at least 0, got -1" in wrong.output


def test_without_the_page(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *BASELINE, cache=cache)
    assert done.code == 0, done.output
    assert "Report:" not in done.output
    assert not list(tmp_path.glob("report*"))
    assert (tmp_path / "results.json").exists()


def test_a_page_that_fails_costs_no_results(
    calibrated: Finished, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(outputs, "write_report", fail)
    done = run(tmp_path, *BASELINE, "report=true", cache=cache)
    assert done.code == 0, done.output
    assert done.results["snn_accuracy"] == done.results["accuracy_over_time"][-1]
    assert (tmp_path / "snn.ckpt").exists()
    log = (tmp_path / "calibrate.log").read_text()
    assert "There is no report.html (RuntimeError: no ink). Results and checkpoint are complete" in log
    assert "report=false leaves the page out" in log
    assert "WARNING" in log


def test_the_page_of_a_part(calibrated: Finished, cache: Path, tmp_path: Path) -> None:
    done = run(tmp_path, *BASELINE, "report=true", "T=4", "network=features", cache=cache)
    assert done.code == 0, done.output
    assert column(tmp_path, "accuracy_over_time", "t") == done.results["times"] == [1, 2, 4]
    assert [row["stage"] for row in rows(tmp_path, "mismatch")] == [s["name"] for s in done.results["stages"]]
    assert f"{100 * done.results['energy_ratio']:.2f} %" in words(tmp_path / "report.html")
