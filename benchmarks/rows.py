"""The measured rows of a benchmark, kept in a JSON file with what they were measured with."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from snn_lightning.files import write_atomically


class Rows(list[dict[str, Any]]):
    """Rows that a file already has are not measured again.

    Args:
        path: the JSON file; read if it is there, written whole after each new row.
        keys: the columns that tell rows apart.
        settings: what holds for all rows; a file that was made with others is refused.
        packages: whose versions are written down, beside Python's and torch's.
    """

    def __init__(
        self, path: str, keys: Sequence[str], settings: Mapping[str, Any], packages: Sequence[str] = ()
    ) -> None:
        self.path, self.keys = Path(path), keys
        self.settings = json.loads(json.dumps(settings))
        self.packages = ("torch", *packages)
        kept = json.loads(self.path.read_text()) if self.path.exists() else {"settings": self.settings}
        if kept["settings"] != self.settings:
            raise SystemExit(
                f"{path} was measured with {kept['settings']}, not with {self.settings}: delete it, or name "
                "another --output."
            )
        super().__init__(kept.get("rows", []))

    def has(self, *key: Any) -> bool:
        """Whether a row with these values of `keys` is there."""
        return any(tuple(row[name] for name in self.keys) == key for row in self)

    def add(self, key: Sequence[Any], **values: Any) -> dict[str, Any]:
        """Append a row, write the file, and return the row."""
        self.append(dict(zip(self.keys, key, strict=True)) | values)
        versions = {"python": platform.python_version(), **{name: version(name) for name in self.packages}}
        content = {"settings": self.settings, "machine": platform.machine(), "versions": versions}
        write_atomically(self.path, (json.dumps(content | {"rows": list(self)}, indent=2) + "\n").encode())
        return self[-1]
