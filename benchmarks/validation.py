"""What the benchmarks on validation images share: networks, images, and the arguments that choose them."""

import argparse
from collections.abc import Iterator

import torch
from accuracy import MODELS, TABLES, data_module, trained
from torch import Tensor, nn

from snn_lightning.data import FashionMNIST


def add_arguments(
    parser: argparse.ArgumentParser, output: str, calibration_images: int, validation_images: int
) -> None:
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=TABLES)
    parser.add_argument("--timesteps", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--calibration-images", type=int, default=calibration_images)
    parser.add_argument("--validation-images", type=int, default=validation_images)
    parser.add_argument("--output", default=output)
    parser.set_defaults(test_images=None)  # None are looked at.


def networks(args: argparse.Namespace) -> Iterator[tuple[str, int, FashionMNIST, nn.Module, Tensor, Tensor]]:
    """Each trained ANN: model, seed, data, network, the first validation images and their labels."""
    for model in args.models:
        for seed in args.seeds:
            data = data_module("fashion_mnist", seed, args)
            data.setup()
            images, labels = zip(*data.val_dataloader(), strict=True)
            count = args.validation_images
            ann = trained("fashion_mnist", model, seed, data)
            yield model, seed, data, ann, torch.cat(images)[:count], torch.cat(labels)[:count]
