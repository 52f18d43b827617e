"""The console script `snn-train`; `train.py` starts it too."""

from __future__ import annotations

from omegaconf import DictConfig

from snn_lightning.cli.main import start


def job(config: DictConfig) -> float | None:
    """Run one training; return the metric for Hydra's sweeper."""
    # Imported here so that --help answers sooner.
    from snn_lightning.cli.jobs import run, train

    return run(train, config)


def main() -> None:
    """Pretrain an ANN."""
    start(job, "train")


if __name__ == "__main__":
    main()
