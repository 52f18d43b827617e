"""Numbers as text."""

from __future__ import annotations

import math


def si(number: float) -> str:
    """Return a number with three digits and a prefix: "40.8 M".

    Example:
        >>> si(40_812_000)
        '40.8 M'
    """
    exponent = 0 if number < 999.5 else min(5, math.floor(math.log10(number * 1.0005) / 3))
    value = number / 1000**exponent
    digits = 0 if value >= 99.95 or exponent == 0 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {' kMGTP'[exponent]}".rstrip()


def in_bytes(number: float) -> str:
    """Return a number of bytes with three digits and a prefix: "40.8 MB".

    Example:
        >>> in_bytes(40_812_000)
        '40.8 MB'
    """
    return f"{si(number)}B" if number >= 999.5 else f"{number:.0f} B"
