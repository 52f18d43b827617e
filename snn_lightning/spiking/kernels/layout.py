"""How currents and spike trains lie in memory, whatever the order of their dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALL = 512
"""Images of fewer places are taken together as one row, so that rows are worth a loop."""


@dataclass(frozen=True)
class Layout:
    """Spike trains as `[T, rows, places]` in memory.

    Args:
        shape: `[N, C, ...]`.
        order: the dimensions of `[C, ...]` from the largest stride to the smallest, counted from 1.

    Example:
        >>> layout = Layout.of(torch.rand(2, 3, 4, 4))
        >>> layout.shape, layout.order
        ((2, 3, 4, 4), (1, 2, 3))
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        """Return the layout of `x`, `[N, C, ...]`."""
        stride = x.stride()
        return cls(tuple(x.shape), tuple(sorted(range(1, x.dim()), key=lambda d: (-stride[d], d))))

    @property
    def rows(self) -> int:
        """Rows a time step."""
        return self.shape[0] if self._image >= SMALL else 1

    @property
    def places(self) -> int:
        """Neurons a row."""
        return self._image if self._image >= SMALL else self.shape[0] * self._image

    @property
    def _image(self) -> int:
        return torch.Size(self.shape[1:]).numel()

    def dense(self, x: Tensor) -> Tensor:
        """Return `x`, `[N, C, ...]` or `[T, N, C, ...]`, as contiguous memory in this order."""
        lead = x.dim() - len(self.shape) + 1
        return x.permute(*range(lead), *(d + lead - 1 for d in self.order)).contiguous()

    def empty(self, like: Tensor, *lead: int) -> tuple[Tensor, Tensor]:
        """Return fresh memory for `[*lead, N, C, ...]`, as it lies and as a view in the order of `shape`."""
        sizes = (self.shape[0], *(self.shape[d] for d in self.order))
        memory = torch.empty((*lead, *sizes), dtype=like.dtype, device=like.device)
        return memory, self.view(memory)

    def view(self, memory: Tensor) -> Tensor:
        """Return what lies as `memory`, `[..., N, dims in this order]`, as `[..., N, C, ...]`."""
        lead = memory.dim() - len(self.shape) + 1
        back = sorted(range(len(self.order)), key=lambda k: self.order[k])
        return memory.permute(*range(lead), *(k + lead for k in back))

    def ordered(self, x: Tensor) -> Tensor:
        """Return `x`, `[..., N, C, ...]`, in this memory order."""
        return self.view(self.dense(x))

    def stack(self, steps: list[Tensor]) -> Tensor:
        """Return `[T, N, C, ...]` in this memory order, given `[N, C, ...]` for each time step."""
        return self.view(torch.stack([self.dense(x) for x in steps]))

    def parameter(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Return one number a neuron of a row, `[places]`, from `values` that broadcast over `[C, ...]`."""
        image = values.expand(self.shape[1:]).permute(*(d - 1 for d in self.order))
        if self._image < SMALL:
            image = image.expand(self.shape[0], *image.shape)
        return image.to(dtype).contiguous()
