"""Build and load the CPU kernel with the machine's C compiler."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from snn_lightning.files import fingerprint, replacing

SOURCE = Path(__file__).with_name("cpu.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fPIC", "-shared")
"""Contraction to fused multiply-adds would round otherwise than PyTorch does."""

logger = logging.getLogger(__name__)


@cache
def library() -> ctypes.CDLL | None:
    """Return the CPU kernel, built at the first use on a machine; None where that is impossible.

    It is kept in `$XDG_CACHE_HOME/snn_lightning` (`~/.cache/snn_lightning`), under a name made from the
    source, the flags, the compiler and the processor, since a home folder may serve several machines.
    """
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        logger.info("No C compiler found: neurons run in plain PyTorch, which is slower.")
        return None
    try:
        folder = _folder()
        for flags in ((*FLAGS, "-fopenmp"), FLAGS):
            path = folder / f"neuron_{_fingerprint(compiler, flags)}.so"
            if path.exists() or _compile(compiler, flags, path):
                return ctypes.CDLL(str(path))
    except OSError as error:
        logger.info("The CPU kernel can't be built (%s): neurons run in plain PyTorch.", error)
    return None


def _folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "snn_lightning"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="snn_lightning_"))


def _fingerprint(compiler: str, flags: tuple[str, ...]) -> str:
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text().splitlines() if processor.exists() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    parts = [SOURCE.read_text(), compiler, *flags, platform.platform(), *features]
    return fingerprint(["\0".join(parts).encode()])


def _compile(compiler: str, flags: tuple[str, ...], path: Path) -> bool:
    try:
        with replacing(path) as part:
            command = [compiler, *flags, str(SOURCE), "-o", str(part)]
            subprocess.run(command, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        logger.info("%s failed: %s", compiler, error.stderr.strip()[-500:])
        return False
    return True
