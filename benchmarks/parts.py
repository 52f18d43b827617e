"""The parts of a benchmark: each in a process of its own and within a time limit; the machine; their page."""

import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

Row = dict[str, Any]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def machine() -> Iterator[Row]:
    """Yield the device, its driver and the versions."""
    row = {"device": platform.processor() or platform.machine(), "kind": device(), "driver": None}
    if query := shutil.which("nvidia-smi"):
        command = [query, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True)
        row["driver"] = (done.stdout or done.stderr).strip().split("\n")[0]
    if device() == "cuda":
        found = torch.cuda.get_device_properties(0)
        row |= {"device": found.name, "memory GiB": round(found.total_memory / 2**30, 1)}
        row |= {"capability": f"{found.major}.{found.minor}", "cuDNN": torch.backends.cudnn.version()}
    row |= {"python": platform.python_version(), "torch": torch.__version__, "CUDA": torch.version.cuda}
    yield row | {name: version(name) for name in ("triton", "lightning", "torchvision", "pytest")}


def failure(error: BaseException) -> Row:
    return {"failed": f"{type(error).__name__}: {error}"[:500]}


def send(sender: Connection, run: Callable[[], Iterator[Row]]) -> None:
    """Send the rows of a part, and None after the last; a process of its own, and so a group of its own."""
    os.setsid()
    try:
        for row in run():
            sender.send(row)
    except Exception as error:
        sender.send(failure(error))
    sender.send(None)


def run_part(run: Callable[[], Iterator[Row]], limit: float) -> Row:
    """Return the state of a part, its seconds and its rows, also of one that takes too long or dies.

    Args:
        run: yields the rows.
        limit: seconds after which it is stopped; 0 or less to leave it out.
    """
    if limit <= 0:
        return {"state": "left out: no time left", "seconds": 0.0, "rows": []}
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sender, run))
    rows: list[Row] = []
    state, started = "done", time.perf_counter()
    process.start()
    sender.close()
    try:
        while receiver.poll(max(0.0, started + limit - time.perf_counter())):
            if (row := receiver.recv()) is None:
                break
            rows.append(row)
        else:
            state = f"stopped: no time left after {limit:.0f} s"
    except EOFError:
        process.join()
        state = f"died with exit status {process.exitcode}"
    finally:
        for kill in (partial(os.killpg, process.pid, signal.SIGKILL), process.kill):
            with suppress(ProcessLookupError):
                kill()
        process.join()
    failed = state == "done" and rows and all("failed" in row for row in rows)
    return {"state": "failed" if failed else state, "seconds": time.perf_counter() - started, "rows": rows}


def markdown(results: Row) -> str:
    """Return the results as a page."""
    found = results["machine"]
    lines = [f"# {found['device']}{', tiny sizes' if results['tiny'] else ''}", ""]
    lines += [", ".join(f"{key} {value}" for key, value in found.items() if value is not None)]
    for name, part in results["parts"].items():
        lines += ["", f"## {name}", "", f"{part['state']}, {part['seconds']:.0f} s", ""]
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        table = [columns, ["---"] * len(columns)] if columns else []
        table += [[cell(row.get(column)) for column in columns] for row in part["rows"]]
        lines += [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(cell, value))
    text = "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").split())
