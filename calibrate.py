"""Pretrain or load an ANN, then convert, calibrate, test and save the spiking network.

python calibrate.py model=vgg16_bn pipeline=acp T=16
"""

from snn_lightning.cli.calibrate import main

if __name__ == "__main__":
    main()
