"""Training of a converted spiking network as a whole, from where conversion left it."""

from __future__ import annotations

from dataclasses import dataclass

from snn_lightning.settings import check_positive, check_whole


@dataclass(frozen=True)
class FineTuning:
    """Training with surrogate gradients after conversion (hybrid training).

    Rathi et al., "Enabling deep spiking neural networks with hybrid conversion and spike timing dependent
    backpropagation", ICLR 2020, arXiv:2005.01807. The paper's surrogate derivative depends on the time since
    the last spike and its neurons leak; here they don't, and the derivative is that of `spiking.surrogate`.

    Args:
        epochs: of the labelled training images; 0 leaves it out.
        learning_rate: at the top of the cosine schedule; momentum and weight decay are the module's.

    Example:
        >>> FineTuning(epochs=2).learning_rate
        0.001
    """

    epochs: int = 0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_whole("finetune.epochs", self.epochs, least=0)
        check_positive("finetune.learning_rate", self.learning_rate)
