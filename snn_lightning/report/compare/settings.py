"""Which settings differ between methods, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SYNTHESIS = "synthesis"
"""The section of a config that says how images are made from the ANN."""

TARGET = "_target_"

Config = Mapping[str, Any]


def differing(configs: Sequence[tuple[str, Config]]) -> list[str]:
    """Return the settings that tell methods apart, as a command line names them.

    Settings of a class are compared with those of the same class alone, and those of a pipeline with those of
    the same pipeline: they come with it. So does the way to make images with the source that makes them. What
    a pipeline takes over from the setting of the same name, as it does the threshold, is not named twice.

    Args:
        configs: for each method the name of its pipeline, and its settings.

    Example:
        >>> mmse = {"_target_": "snn_lightning.MMSE", "grid": 100}
        >>> percentile = {"_target_": "snn_lightning.Percentile", "percentile": 99}
        >>> small = {"threshold": mmse, "pipeline": {"threshold": mmse}, "data": {"calibration_images": 64}}
        >>> other = {"threshold": percentile, "pipeline": {"threshold": percentile}, "data": small["data"]}
        >>> large = {**small, "data": {"calibration_images": 128}}
        >>> differing([("lcp", small), ("lcp", other), ("lcp", large)])
        ['threshold', 'data.calibration_images']
    """
    outside = [{key: value for key, value in config.items() if key != "pipeline"} for _, config in configs]
    names = [name for name in dict.fromkeys(_differing("", outside)) if name != SYNTHESIS]
    for pipeline in dict.fromkeys(pipeline for pipeline, _ in configs):
        same = [config for other, config in configs if other == pipeline]
        for found in _differing("pipeline", [config.get("pipeline") for config in same]):
            name = f"pipeline.{TARGET}" if found == "pipeline" else found
            taken_over = name.removeprefix("pipeline.")
            if not (taken_over in names and all(look_up(c, name) == look_up(c, taken_over) for c in same)):
                names.append(name)
    return list(dict.fromkeys(names))


def look_up(config: Config, name: str) -> Any:
    """Return a setting; None where there is none.

    Example:
        >>> look_up({"data": {"image_size": 32}}, "data.image_size"), look_up({}, "data.image_size")
        (32, None)
    """
    value: Any = config
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def text(value: Any) -> str | None:
    """Return a setting's value as it is shown; of a class its name.

    Example:
        >>> text({"_target_": "snn_lightning.MMSE"}), text(["head", "*.se"]), text(True), text(None)
        ('MMSE', 'head, *.se', 'true', None)
    """
    if isinstance(value, Mapping):
        target = str(value.get(TARGET, "")).rpartition(".")[2]
        return target or ", ".join(f"{key}={text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(text(item) or "" for item in value)
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _differing(name: str, values: Sequence[Any]) -> Iterator[str]:
    """Yield the names of the differing settings in and below the setting `name`."""
    sections = [value for value in values if isinstance(value, Mapping)]
    kinds = [section.get(TARGET) for section in sections]
    plain = [value for value in values if not isinstance(value, Mapping)]
    if len({str(kind) for kind in kinds}) + len({repr(value) for value in plain}) > 1:
        yield name
    for kind in dict.fromkeys(kinds):
        same = [section for section in sections if section.get(TARGET) == kind]
        for key in dict.fromkeys(key for section in same for key in section if key != TARGET):
            yield from _differing(f"{name}.{key}" if name else key, [section.get(key) for section in same])
