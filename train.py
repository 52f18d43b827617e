"""Pretrain an ANN.

python train.py model=resnet20 data=cifar10 experiment=cifar_bn
"""

from snn_lightning.cli.train import main

if __name__ == "__main__":
    main()
