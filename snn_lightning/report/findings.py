"""Warnings in words: what in the numbers should make one look again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from snn_lightning.analysis.results import percent
from snn_lightning.report.collect import Contents

FEW_IMAGES = 128
"""The paper takes so many for biases and potentials, and 1024 for thresholds and weights (PC 5.1)."""

GREW = 1.01
"""An error that is less than so many times as large has not grown."""

NAMED = 8
"""So many sites at most are named in a sentence."""


def findings(contents: Contents) -> list[str]:
    """Return a sentence or two for each thing that may be wrong, with what to do about it."""
    checks = (_no_number, _few_images, _worse, _silent, _saturated, _grown, _put_back)
    return [text for check in checks for text in check(contents)]


def _no_number(contents: Contents) -> Iterator[str]:
    for score in contents.scores:
        values = (score.ann, score.uncalibrated, score.snn, *score.over_time)
        if any(value is not None and not math.isfinite(value) for value in values):
            yield f"The {score.title} is not a finite number everywhere: look at the outputs of the networks."


def _few_images(contents: Contents) -> Iterator[str]:
    images = max((record.get("images", 0) for record in contents.records), default=0)
    if 0 < images < FEW_IMAGES:
        yield (
            f"The calibration set is small: {images} image{'s' * (images > 1)}. The paper takes {FEW_IMAGES} "
            "for biases and potentials and 1024 for thresholds and weights. Calibrate with more images "
            "(data.calibration_images)."
        )


def _worse(contents: Contents) -> Iterator[str]:
    for score in contents.scores:
        old, new = score.uncalibrated, score.snn
        if old is not None and new is not None and new < old:
            yield (
                f"The calibration has cost {score.title}: {percent(old)} before it and {percent(new)} after "
                "it. Calibrate with more images, or with pipeline=lcp."
            )


def _silent(contents: Contents) -> Iterator[str]:
    if contents.firing is None:
        return
    if counts := [
        (site.name, site.silent, len(site.channels)) for site in contents.firing.sites if site.silent
    ]:
        yield (
            f"{_channels(counts)} never fired on the {contents.firing.images} images: {_named(counts)}. "
            "Where the ANN's activation is 0 too, nothing is lost; elsewhere the threshold is too high, or T "
            "too small."
        )


def _saturated(contents: Contents) -> Iterator[str]:
    if contents.firing is None:
        return
    sites = contents.firing.sites
    if counts := [(site.name, site.saturated, len(site.channels)) for site in sites if site.saturated]:
        yield (
            f"{_channels(counts)} fired at nearly every time step: {_named(counts)}. They can't give more "
            "than their threshold; a higher one clips less (threshold=percentile or max)."
        )


def _grown(contents: Contents) -> Iterator[str]:
    errors = contents.errors
    grown = [
        f"{name} ({old:.3g} to {new:.3g})"
        for name, old, new in errors
        if old is not None and new > GREW * old
    ]
    if grown:
        yield (
            f"The error grew in the calibration at {len(grown)} of {len(errors)} stages: {_listed(grown)}. "
            "Calibrate with more images, or with fewer steps."
        )


def _put_back(contents: Contents) -> Iterator[str]:
    kept = [
        record["name"]
        for record in contents.records
        if any(numbers.get("kept", 1.0) == 0 for numbers in record["steps"].values())
    ]
    if kept:
        yield (
            f"Trained weights were worse than those before and were put back: {_listed(kept)}. Calibrate "
            "with more images, or take smaller steps (step_size)."
        )


def _channels(counts: Iterable[tuple[str, int, int]]) -> str:
    found = sum(count for _, count, _ in counts)
    return f"{found:,} channel{'s' * (found > 1)}"


def _named(counts: Iterable[tuple[str, int, int]]) -> str:
    return _listed([f"{name} ({count} of {total})" for name, count, total in counts])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
