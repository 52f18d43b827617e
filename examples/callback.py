"""One line turns an ordinary Lightning program into one that ends with a spiking network.

python examples/callback.py
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from snn_lightning import ACP, CalibrationCallback


class Digits(LightningModule):
    """An ordinary classifier that knows nothing of spikes."""

    def __init__(self) -> None:
        super().__init__()
        conv1 = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2))
        conv2 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(2))
        self.net = nn.Sequential(conv1, conv2, nn.Flatten(), nn.Linear(256, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


seed_everything(0)
digits = load_digits()
images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
train, test = random_split(TensorDataset(images, labels), [1400, 397])
module = Digits()
calibration = CalibrationCallback(ACP(timesteps=8), DataLoader(train, batch_size=100))  # the one line
trainer = Trainer(max_epochs=10, callbacks=[calibration], logger=False, enable_checkpointing=False)
trainer.fit(
    module, DataLoader(train, batch_size=64, shuffle=True)
)  # ends with a calibrated SNN in module.net
trainer.test(module, DataLoader(test, batch_size=100))  # tests the SNN
