"""The page docs/support.md, made from the rules tables and from what conversion finds."""

import operator
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from snn_lightning.graph.capture.lowering import FUNCTION_RULES, MODULE_RULES
from snn_lightning.graph.capture.remedies import REMEDIES, REMEDY_BY_NAME
from snn_lightning.graph.capture.rules.vision import register_torchvision
from snn_lightning.graph.report import ConversionReport

from .nets import net
from .test_refusals import OPERATORS as REFUSED
from .test_refusals import refused
from .zoo import CLASSIFIERS, DETECTORS, MEMBERS, SEGMENTERS, TIMM, Found

HEAD = '| {} | whole | `analog="auto"` | nothing to spike | sites | windows | what has no spiking form |'
TABLES = {
    "classifier": CLASSIFIERS,
    "segmentation": SEGMENTERS,
    "detector: `network`": DETECTORS,
    "family: member": MEMBERS,
}
NAMES = [name for names in TABLES.values() for name in names]
register_torchvision()

SECTIONS = {
    "activations": "## Activations of one neuron a call",
    "comparisons": "### As a comparison with zero",
    "leaky_relu": "## Activations of two neurons a call",
    "synapses": "### Synapses, batch norm, pooling, resampling",
    "matmul": "### Matrix products with a constant",
    "arithmetic": "### Sums, differences, scales and constants",
    "shapes": "### Concatenation, cuts and moves",
    "padding": "### Padding",
    "identity": "### Nothing is left of them in eval mode",
}
NOTES = {
    "activations": "Each *call* is a site and becomes a layer of integrate-and-fire neurons, so a module "
    "that is called twice is two sites. `Hardtanh` and `clamp` convert with the lower bound 0; an upper "
    "bound caps the threshold, as ReLU6 does; `Threshold` with 0 and 0.",
    "comparisons": "`torch.maximum(x, 0)` with any constant of zeros that doesn't enlarge `x`, "
    "`torch.where(x > 0, x, 0)` and `x * (x > 0)`.",
    "leaky_relu": "`relu(x) - a * relu(-x)`, exactly, for any slope `a`: two sites, see "
    "[how it works](how_it_works.md). RReLU has its mean slope in eval mode.",
    "synapses": "A batch norm is folded into the synapse that it alone reads, and is a per-channel affine "
    "map elsewhere. Max pooling behind a site becomes a gate.",
    "matmul": "`x @ W` with a constant `W [in, out]`, and `torch.einsum` that sums one dimension of `x` "
    "behind the batch with such a constant.",
    "arithmetic": "Of two activations, sums and differences; with numbers and constant tensors, products and "
    "quotients too.",
    "shapes": "All behind the batch dimension, which stays first.",
}
NAMESPACES = {"F": F, "torch": torch, "torchvision.ops": torchvision.ops}
SYMBOLS = {
    "matmul": "@",
    "add": "+",
    "sub": "-",
    "mul": "*",
    "truediv": "/",
    "neg": "-x",
    "gt": ">",
    "ge": ">=",
    "getitem": "x[...]",
}


def row(name: str, found: Found) -> str:
    """Return the line of a network in its table."""
    whole, auto = found.whole, found.auto
    share = f"{auto.share:.1%}".replace("%", " %") if auto.share is not None else ""
    cells = (share, "", "") if whole.convertible else ("", share, "") if auto.convertible else ("", "", "x")
    counts = (str(auto.sites), str(auto.windows)) if auto.convertible else ("", "")
    return f"| {' | '.join([name, *cells, *counts, _without_form(whole)])} |"


def _without_form(report: ConversionReport) -> str:
    counts = Counter(obstacle.operator for obstacle in report.obstacles)
    if report.problem and not counts:
        return "code that can't be traced"
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def page(rows: Mapping[str, str]) -> str:
    """Return the whole page, given the line of each network."""
    tables = [_table(HEAD.format(head), (rows[name] for name in names)) for head, names in TABLES.items()]
    parts = [
        "# What converts",
        "`conversion_report(ann, sample)` says it for your own network, on the meta device even without "
        "weights. This page is made by a program, and a test compares it with what conversion finds: after a "
        "change run `python -m tests.test_support_matrix`.",
        "A network converts whole, but for an analog tail behind its last neurons, which needs no setting; "
        'or [with `analog="auto"`](analog.md), which leaves analog what the last column counts; or there is '
        "nothing to spike: it has no ReLU-like activation that sees the images. "
        "Sites are activation calls, each a layer of neurons; windows, of T time steps each, come one after "
        "the other in an inference.",
        "The number in the column is the share of multiply-adds that spike: of all that torch's flop counter "
        "finds in the network, those in synapses that receive nothing but spikes, and so neither in analog "
        "operators nor in synapses that read the image, an analog result, a mean of an earlier window, or "
        "the current that another synapse gives.",
        "## torchvision's classifiers",
        f"{_summary(rows, CLASSIFIERS)} Auxiliary heads are off in eval mode and don't count.",
        tables[0],
        "## torchvision's segmentation models",
        _summary(rows, SEGMENTERS),
        tables[1],
        "## torchvision's detectors",
        'Of a detector a part is converted, `network="backbone.body"` or `network="backbone"`, which has '
        "the feature pyramid too; see [Lightning](lightning.md). The rest stays as it is, and its "
        "multiply-adds are not in the numbers.",
        tables[2],
        "## timm's families",
        f"A small member of each family, which is a file of timm {TIMM}, without its weights. "
        f"{_summary(rows, MEMBERS)}",
        tables[3],
        "## Why something is refused",
        "One message lists every obstacle with its module, source line and remedy, and says which setting "
        "would leave it analog.",
    ]
    for module, title in SECTIONS.items():
        parts += ["## Linear operators"] if module == "synapses" else []
        parts += [title, *([NOTES[module]] if module in NOTES else []), _supported(module)]
    parts += [
        "## What is refused",
        _named_refusals(),
        "And by the form of the call, for instance:",
        _refusals(),
    ]
    return "\n\n".join("\n".join(map(_wrapped, part.split("\n"))) for part in parts) + "\n"


def counts(rows: Mapping[str, str], names: Iterable[str]) -> tuple[int, int, int]:
    """Return how many networks there are, how many convert whole, and how many only with `analog="auto"`."""
    shares = [[*rows[name].split(" | "), "", ""][1:3] for name in names]
    return len(shares), sum("%" in whole for whole, _ in shares), sum("%" in auto for _, auto in shares)


def _summary(rows: Mapping[str, str], names: Iterable[str]) -> str:
    count, whole, auto = counts(rows, names)
    return f'Of {count}, {whole} convert whole, and {auto} more with `analog="auto"`.'


def _wrapped(line: str) -> str:
    """Break a line of prose or of a list; those of tables must stay whole."""
    if line.startswith(("|", "#")):
        return line
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, 130, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def rows_of(text: str, names: Iterable[str]) -> dict[str, str]:
    """Return the lines of the networks `names` in a page."""
    found = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    return {name: found.get(name, "") for name in names}


def _supported(module: str) -> str:
    modules = [cls for cls, rule in MODULE_RULES.items() if _belongs(rule, module)]
    functions = [target for target, rule in FUNCTION_RULES.items() if _belongs(rule, module)]
    lists = {
        "modules": {_class_name(cls) for cls in modules if _public(cls)},
        "functions": {_function_name(f) for f in functions if not isinstance(f, str)},
        "methods": {f".{f}()" for f in functions if isinstance(f, str)},
    }
    return "\n".join(f"- {kind}: {_listed(names)}" for kind, names in lists.items() if names)


def _listed(names: set[str]) -> str:
    """Return names in order, those of 1, 2 and 3 dimensions as one."""
    bases = {name[:-2] for name in names if all(f"{name[:-2]}{d}d" in names for d in (1, 2, 3))}
    rest = {name for name in names if name[:-2] not in bases}
    return ", ".join(f"`{name}`" for name in sorted(rest | {f"{base}1d/2d/3d" for base in bases}))


def _belongs(rule: Callable[..., Any], module: str) -> bool:
    # A rule that never returns only says why something is refused.
    refuses = getattr(rule, "__annotations__", {}).get("return") == "NoReturn"
    return rule.__module__.rpartition(".")[2] == module and not refuses


def _public(cls: type[nn.Module]) -> bool:
    return cls.__module__.startswith("torch") and not cls.__name__.startswith("_")


def _class_name(cls: type[nn.Module]) -> str:
    return (
        f"nn.{cls.__name__}" if getattr(nn, cls.__name__, None) is cls else f"torchvision.ops.{cls.__name__}"
    )


def _function_name(function: Any) -> str:
    name = function.__name__
    if getattr(operator, name, None) is function:
        in_place = name.startswith("i") and name[1:] in SYMBOLS
        return f"{SYMBOLS[name[1:]]}=" if in_place else SYMBOLS[name]
    for prefix, namespace in NAMESPACES.items():
        found = next((n for n in (name.lstrip("_"), name) if getattr(namespace, n, None) is function), None)
        if found is not None:
            return f"{prefix}.{found}"
    return f"{function.__module__}.{name}"


def _named_refusals() -> str:
    lines = [
        f"| {', '.join(name for name, kind in REMEDY_BY_NAME.items() if kind == key)} | {remedy} |"
        for key, remedy in REMEDIES.items()
        if key in REMEDY_BY_NAME.values()
    ]
    return _table("| module, function or method | remedy |", lines)


def _refusals() -> str:
    lines = []
    for _, _, body in REFUSED.values():
        (obstacle,) = refused(net(body)).value.obstacles
        if obstacle.remedy not in REMEDIES.values() and "in a form" not in obstacle.remedy:
            lines.append(f"| {obstacle.operator} | {re.sub(r'[|]', '&#124;', obstacle.remedy)} |")
    return _table("| call | remedy |", sorted(set(lines)))


def _table(head: str, lines: Iterable[str]) -> str:
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])
