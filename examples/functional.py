"""Convert and calibrate any trained network without a Trainer.

python examples/functional.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from snn_lightning import LCP, calibrate, conversion_report, convert, load_converted, save_converted

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
ann = nn.Sequential(
    *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)),
    *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
)
optimizer = torch.optim.Adam(ann.parameters(), lr=3e-3)
for _ in range(300):
    batch = torch.randint(0, 1400, (64,))
    optimizer.zero_grad()
    F.cross_entropy(ann(x[batch]), y[batch]).backward()
    optimizer.step()

print(conversion_report(ann, x[:8]))
uncalibrated = convert(ann, x[:256], timesteps=4)
snn = calibrate(ann, x[:256].split(64), LCP(timesteps=4))
for name, network in (("ANN", ann), ("uncalibrated SNN", uncalibrated), ("calibrated SNN", snn)):
    accuracy = (network(x[1400:]).argmax(1) == y[1400:]).float().mean().item()
    print(f"{name}: {accuracy:.3f}")
save_converted(snn, "snn.ckpt")
assert torch.equal(load_converted("snn.ckpt")(x[1400:]), snn(x[1400:]))
