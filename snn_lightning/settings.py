"""The common base of settings of which there are several kinds."""


class Settings:
    """Base of dataclasses that are chosen by class: pipelines, thresholds, neurons.

    It is no dataclass itself: command lines made from type hints (jsonargparse, Lightning's `LightningCLI`)
    take a family of pure dataclasses for one class, and would refuse `class_path: snn_lightning.ACP`.
    """
