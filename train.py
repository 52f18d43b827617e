"""Pretrain an ANN.

python train.py model=resnet20 data=cifar10 experiment=cifar_bn
"""

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Run one training."""
    # Imported here so that --help answers at once.
    from snn_lightning.jobs import run, train

    run(train, config)


if __name__ == "__main__":
    main()
