"""Pretrain or load an ANN, then convert, calibrate, test and save the spiking network.

python calibrate.py model=vgg16_bn pipeline=acp T=16
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="calibrate")
def main(config: DictConfig) -> None:
    """Run one calibration."""
    # Imported here so that --help answers at once.
    from snn_lightning.jobs import calibrate, run

    run(calibrate, config)


if __name__ == "__main__":
    main()
