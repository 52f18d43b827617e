"""Compose the YAML groups as the entry points do."""

from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

BOXES = ["module=detection", "data=shapes"]
MASKS = ["module=segmentation", "data=shapes", "data.target=masks"]
OWN = {
    "model=import": ["model.target=tests.own_nets.MyNet"],
    **{f"model={name}": BOXES for name in ("faster_rcnn", "fcos", "retinanet")},
    **{f"model={name}": MASKS for name in ("deeplabv3", "fcn", "lraspp")},
}
"""What a choice needs besides, where nothing goes without it."""

CONF = Path(__file__).parents[1] / "conf"


def group(name: str) -> list[str]:
    """The choices of a group."""
    return sorted(path.stem for path in (CONF / name).glob("*.yaml"))


def composed(entry: str, folder: Path, *overrides: str) -> DictConfig:
    """The config of `train` or `calibrate`, with `folder` for its results."""
    for choice in overrides:
        overrides = (*OWN.get(choice, []), *overrides)
    overrides = (f"hydra.runtime.output_dir={folder}", "hydra.mode=RUN", *overrides)
    settings = compose(entry, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(settings)
    with open_dict(settings):
        settings.pop("hydra")
    return settings
