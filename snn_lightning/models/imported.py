"""Networks of the user's own: a dotted path and keywords in, an `nn.Module` out."""

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from snn_lightning.errors import SettingsError, unknown
from snn_lightning.files import fingerprint

EXAMPLE = "for example model.target=my_package.MyNet"


def create_imported_model(
    name: str, num_classes: int, in_channels: int, image_size: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build whatever the callable at `settings["target"]` returns.

    Args:
        name: what results call the network; the YAML makes it the target.
        num_classes: width of the output `[N, num_classes]`; this one and the next two are handed on only if
            the callable takes a keyword of that name.
        in_channels: C of the input `[N, C, H, W]`.
        image_size: H and W in pixels.
        settings: `target`, the dotted path of a class or function, importable from the working directory
            too; and the callable's own keywords.

    Raises:
        SettingsError: the target is missing, can't be imported or called, refuses the keywords or returns no
            network, or the network doesn't take these images or gives another number of classes.

    Example:
        >>> settings = {"target": "torchvision.models.SqueezeNet", "version": "1_1"}
        >>> net = create_imported_model("mine", 10, 3, 64, settings)
        >>> net.num_classes
        10
    """
    given = dict(settings)
    target = given.pop("target", None)
    builder = locate(target)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    keywords = _keywords(target, builder, sizes, given)
    try:
        net = builder(**keywords)
    except Exception as error:
        text = ", ".join(f"{key}={value!r}" for key, value in keywords.items())
        raise SettingsError(f"{target}({text}) fails: {_described(error)}") from error
    if not isinstance(net, nn.Module):
        raise SettingsError(
            f"{target} returned a value of type {type(net).__name__} and no nn.Module: name a class derived "
            "from nn.Module, or a function that returns one"
        )
    _check_output(target, net, sizes)
    return net


def locate(target: object) -> Callable[..., Any]:
    """Import what a dotted path names, with the working directory first on `sys.path`, as scripts have it.

    Raises:
        SettingsError: there is no such path, or what it names can't be called.

    Example:
        >>> locate("torch.nn.Linear")
        <class 'torch.nn.modules.linear.Linear'>
    """
    if target is None:
        raise SettingsError(f"model.target is missing: say what builds the network, {EXAMPLE}")
    names = str(target).split(".")
    if len(names) < 2 or not all(name.isidentifier() for name in names):
        raise SettingsError(f"model.target={target!r} is no module and name joined by dots; {EXAMPLE}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found, count = _import_longest(names[:-1])
    for depth, name in enumerate(names[count:], count):
        if not hasattr(found, name) and name in _submodules(found):
            _import(".".join(names[: depth + 1]))
        if not hasattr(found, name):
            place = ".".join(names[:depth])
            file = getattr(found, "__file__", None)
            known = _callables(found) + _submodules(found)
            raise SettingsError(
                unknown(f"name in {place} ({file})" if file else f"name in {place}", name, known)
            )
        found = getattr(found, name)
    if not callable(found) or isinstance(found, nn.Module):
        what = "a finished network" if isinstance(found, nn.Module) else f"of type {type(found).__name__}"
        raise SettingsError(
            f"model.target={target} is {what}, which builds nothing: name the class, or a function that "
            "returns the network"
        )
    return found


def code_fingerprint(target: str, net: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with the files in which a network's classes are written.

    Args:
        target: the dotted path that built it.
        net: the network; classes of PyTorch's own don't count.

    Example:
        >>> len(code_fingerprint("torch.nn.Linear", nn.Linear(2, 2)))
        16
    """
    kinds = {type(module) for module in net.modules()}
    things: list[Callable[..., Any]] = [kind for kind in kinds if not kind.__module__.startswith("torch.")]
    files = set()
    for thing in [locate(target), *things]:
        try:
            files.add(inspect.getsourcefile(inspect.unwrap(thing)))
        except TypeError:  # written in C, or at a prompt
            continue
    contents = sorted(Path(file).read_bytes() for file in files if file and Path(file).is_file())
    return fingerprint([b"\0".join(contents)])


def _keywords(
    target: str, builder: Callable[..., Any], sizes: Mapping[str, int], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The keywords of the call: the sizes that the callable asks for by name, and all settings."""
    try:
        parameters = list(inspect.signature(builder).parameters.values())
    except ValueError:  # written in C
        return dict(settings)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes = [p.name for p in named]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for field in settings:
        if field not in takes and not anything:
            raise SettingsError(unknown(f"setting of {target}", field, set(takes) - set(sizes)))
    keywords = {**{key: value for key, value in sizes.items() if key in takes}, **settings}
    missing = [p.name for p in named if p.default is p.empty and p.name not in keywords]
    if missing:
        raise SettingsError(f"{target} needs {', '.join(missing)}: add +model.{missing[0]}=...")
    return keywords


@torch.no_grad()
def _check_output(target: str, net: nn.Module, sizes: Mapping[str, int]) -> None:
    """Run the network once, so that images of another size are refused before a training starts."""
    classes, channels, size = sizes.values()
    device = next((value.device for value in chain(net.parameters(), net.buffers())), None)
    images = torch.zeros(2, channels, size, size, device=device)
    modes = [(module, module.training) for module in net.modules()]
    try:
        with torch.random.fork_rng(devices=[]):
            logits = net.eval()(images)
    except Exception as error:
        raise SettingsError(
            f"{target} can't classify images {list(images.shape)}: {_described(error)}. Let it take "
            "in_channels and image_size, or set data.in_channels or data.image_size"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    shape = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if shape != [2, classes]:
        raise SettingsError(
            f"{target} gives {shape} for 2 images and not [2, {classes}], one number a class: let it take "
            "num_classes and return the logits, or write a function around it that does"
        )


def _import_longest(names: list[str]) -> tuple[ModuleType, int]:
    """Import the longest module that a path begins with; its number of names comes with it."""
    for count in range(len(names), 0, -1):
        path = ".".join(names[:count])
        try:
            return _import(path), count
        except ModuleNotFoundError:
            continue
    known = [module.name for module in pkgutil.iter_modules()]
    raise SettingsError(
        f"{unknown('module in model.target', names[0], known)}. Run the command in the folder that holds it, "
        "install it, or add its folder to PYTHONPATH"
    )


def _import(path: str) -> ModuleType:
    """Import a module.

    Raises:
        ModuleNotFoundError: there is none of that name.
        SettingsError: there is one, and it fails.
    """
    try:
        return importlib.import_module(path)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{path}.".startswith(f"{error.name}."):
            raise
        raise SettingsError(f"model.target: importing {path} fails: {_described(error)}") from error


def _described(error: Exception) -> str:
    """An error of the user's own code: its type, text and place."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}; HYDRA_FULL_ERROR=1 shows the traceback"


def _submodules(thing: object) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(getattr(thing, "__path__", []))]


def _callables(thing: object) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_") and callable(getattr(thing, name, None))]
