"""The console script `snn-calibrate`; `calibrate.py` starts it too."""

from __future__ import annotations

from omegaconf import DictConfig

from snn_lightning.cli.main import start


def job(config: DictConfig) -> float | None:
    """Run one calibration; return the metric for Hydra's sweeper."""
    # Imported here so that --help answers sooner.
    from snn_lightning.cli.jobs import calibrate, run

    return run(calibrate, config)


def main() -> None:
    """Pretrain or load an ANN, then convert, calibrate, test and save the spiking network."""
    start(job, "calibrate")


if __name__ == "__main__":
    main()
