"""Which calibration images are fitted to, and which decide how far a fit goes."""

from __future__ import annotations


class Division:
    """A set whose first images are fitted to and whose last ones are held out; a part of every context.

    Attributes:
        total: number of images of the whole set, over all processes.
        fitted: the first so many are fitted to; by the rest, held out, a step chooses how far it goes.
    """

    total: int
    fitted: int

    @property
    def holds_out(self) -> bool:
        """Whether some images are held out."""
        return self.fitted < self.total

    @property
    def deciding(self) -> int:
        """The first image of those that choose: the held-out ones, or all where none are held out."""
        return self.fitted if self.holds_out else 0
