"""Write down a call that is left analog."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from snn_lightning.graph.capture.values import Mask, Unbatched, Unsupported, Value
from snn_lightning.graph.operators.analog import (
    Analog,
    AnalogFunction,
    AnalogModule,
    function_name,
    torch_class,
)

if TYPE_CHECKING:
    from snn_lightning.graph.capture.lowering import Lowering

UNBATCHED = (
    "it reads an analog result whose first dimension is not the batch; leave the module analog that gives it "
    "the batch first"
)


def leave_analog(low: Lowering, node: fx.Node) -> Any:
    """Write a call as it is; returns its values in the structure of its result.

    Raises:
        Unsupported: it can't be described, or gives no tensor `[N, ...]`.
    """
    found = {part: _written_mask(low, part) for part in node.all_input_nodes}
    inputs: list[Value] = []
    constants: list[Tensor] = []
    args, kwargs = (
        _template(fx.node.map_arg(part, found.__getitem__), inputs, constants, low.batch)
        for part in (node.args, node.kwargs)
    )
    operator, settings, inner = _operator(low, node)
    settings |= {
        "args": args,
        "kwargs": kwargs["dict"],
        "constants": tuple((str(c.dtype).removeprefix("torch."), tuple(c.shape)) for c in constants),
        "in_place": bool(low.changed),
    }

    def add(leaf: tuple[Any, ...], shape: torch.Size) -> Value:
        own = {key: value for key, value in {**settings, "leaf": leaf}.items() if value}
        with torch.device("meta"):
            module = operator(**own)
        for index, constant in enumerate(constants):
            module.register_buffer(f"constant_{index}", constant.detach().clone())
        if inner is not None:
            module.inner = inner
        return low.add(operator, inputs, own, module, shape)

    tensors = _tensors(low.result())
    if not any(_batched(low, tensor) for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise Unsupported(
            f"it gives {shapes or f'a {type(low.result()).__name__}'} for {low.batch} inputs, and only what "
            "gives tensors [N, ...], the batch first, can be left analog"
        )
    values = _values(low, add, low.result(), ())
    for part in low.changed:
        if low.result() is low.env[part]:
            low.rebind(found[part], values)
        elif not isinstance(found[part], Value):
            raise Unsupported("it changes a tensor of the model in place; keep such state out of the network")
    return values


def joined(result: tuple[Any, ...] | list[Any], parts: list[Any]) -> Any:
    """Return `parts` as what `result` is, such as a tuple with the same names."""
    return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)


def describable(low: Lowering, node: fx.Node) -> bool:
    """Whether a call may be left analog by its operator's name."""
    known = node.op == "call_module" or function_name(node.target) is not None
    return known and any(_batched(low, tensor) for tensor in _tensors(low.env[node]))


def _batched(low: Lowering, result: Tensor) -> bool:
    return result.dim() > 0 and result.shape[0] == low.batch


def _written_mask(low: Lowering, node: fx.Node) -> Any:
    """Return what a call has given; a comparison, which no operator reads, is written down first."""
    if not isinstance(low.values[node], Mask):
        return low.values[node]
    with low.at(node):
        return leave_analog(low, node)


def _template(part: Any, inputs: list[Value], constants: list[Tensor], batch: int = 1) -> Any:
    """Return arguments as a template, see `operators.analog`; notes the values and tensors in it."""
    if isinstance(part, Unbatched):
        raise Unsupported(UNBATCHED)
    if isinstance(part, Value):
        inputs.append(part)
        return {"value": len(inputs) - 1}
    if isinstance(part, Tensor):
        return _constant(part, constants, batch)
    if isinstance(part, dict) and all(isinstance(key, str) for key in part):
        return {"dict": {key: _template(item, inputs, constants, batch) for key, item in part.items()}}
    if isinstance(part, tuple | list):
        items = [_template(item, inputs, constants, batch) for item in part]
        return items if isinstance(part, list) else tuple(items)
    if isinstance(part, slice):
        return {"slice": (part.start, part.stop, part.step)}
    if part is ...:
        return {"ellipsis": True}
    if isinstance(part, torch.dtype):
        return {"dtype": str(part).removeprefix("torch.")}
    return _plain(part)


def _constant(tensor: Tensor, constants: list[Tensor], batch: int) -> dict[str, int]:
    """Note a constant; of one that is repeated for every input, such as a class token, one row."""
    repeated = tensor.dim() > 1 and tensor.shape[0] == batch > 1
    # Without numbers there is only the form of the network.
    repeated = repeated and (tensor.is_meta or bool((tensor == tensor[:1]).all()))
    constants.append(tensor[:1] if repeated else tensor)
    return {"rows" if repeated else "constant": len(constants) - 1}


def _plain(part: Any) -> Any:
    for kind in (bool, int, float, str):
        if isinstance(part, kind):
            return kind(part)
    if part is not None:
        raise Unsupported(
            f"it is called with a {type(part).__name__}, which no file could keep; leave the module analog "
            "whose forward calls it"
        )
    return None


def _operator(low: Lowering, node: fx.Node) -> tuple[type[Analog], dict[str, Any], nn.Module | None]:
    """Return the operator that is called, its settings, and the module inside it."""
    if node.op == "call_module":
        module = node.meta["module"]
        twin = _twin(low, node, module)
        if twin is not None:
            return AnalogModule, {"kind": type(module).__name__, "settings": twin[0]}, twin[1]
        kind = type(module).__name__
        return AnalogModule, {"kind": kind, "module": str(node.target)}, module
    name = function_name(node.target)
    if name is None:
        raise Unsupported(
            "it is no function of torch, and no file could describe it; leave the module analog whose "
            "forward calls it"
        )
    return AnalogFunction, {"function": name}, None


def _twin(low: Lowering, node: fx.Node, module: nn.Module) -> tuple[dict[str, Any], nn.Module] | None:
    """Return settings of a module of torch, and the module that they give, if it computes the same."""
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls:
        return None
    settings = _settings(module)
    try:
        with torch.device("meta"):
            twin = torch_class(cls.__name__)(**settings)
        twin.load_state_dict(module.state_dict(), assign=True)
    except Exception:  # settings that it does not keep as attributes lead to whatever a module raises
        return None
    twin.eval().requires_grad_(False)
    on_meta = any(tensor.is_meta for tensor in _tensors(low.result()))
    same = _alike(twin, module) and (on_meta or _equal(*(_run(low, node, m) for m in (module, twin))))
    return (settings, twin) if same else None


def _alike(twin: nn.Module, module: nn.Module) -> bool:
    """Whether a twin has the modules of `module`, and its plain attributes."""
    parts, others = dict(twin.named_modules()), dict(module.named_modules())
    return parts.keys() == others.keys() and all(
        type(part) is type(others[name])
        and all(vars(others[name]).get(key, value) == value for key, value in _attributes(part).items())
        for name, part in parts.items()
    )


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if isinstance(v, int | float | str) and k != "training"}


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the keyword arguments of a module, but for defaults, that it still has as attributes."""
    settings = {}
    for name, default in _parameters(type(module)).items():
        value = getattr(module, name, default)
        if name == "bias" and isinstance(value, Tensor | None):
            value = value is not None
        try:
            plain = _template(value, [], [])
        except Unsupported:
            continue
        if not isinstance(plain, dict) and plain != default:
            settings[name] = plain
    return settings


def _parameters(cls: type[nn.Module]) -> dict[str, Any]:
    """Return what a class is built with, and the defaults; where it passes on any, those of its base too."""
    if cls.__init__ is nn.Module.__init__:
        return {}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        # What comes first the class says itself, such as the mode of an RNN.
        named |= dict(list(_parameters(cls.__mro__[1]).items())[1:])
    return {name: default for name, default in named.items() if name not in ("device", "dtype")}


def _run(low: Lowering, node: fx.Node, module: nn.Module) -> list[Tensor]:
    def copied(tree: Any) -> Any:
        return fx.node.map_aggregate(tree, lambda part: part.clone() if isinstance(part, Tensor) else part)

    args, kwargs = low.fetch_args_kwargs_from_env(node)
    args, kwargs = copied(args), copied(kwargs)
    return _tensors(module(*args, **kwargs))


def _tensors(tree: Any) -> list[Tensor]:
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ()
    return [tree] if isinstance(tree, Tensor) else [leaf for part in parts for leaf in _tensors(part)]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.allclose(x, y, 0, 0, equal_nan=True) for x, y in zip(a, b, strict=True)
    )


def _values(
    low: Lowering, add: Callable[[tuple[Any, ...], torch.Size], Value], result: Any, leaf: tuple[Any, ...]
) -> Any:
    """Return a result with a value, an operator of its own, in place of each tensor."""
    if isinstance(result, Tensor):
        return add(leaf, result.shape) if _batched(low, result) else Unbatched("", result.shape)
    if isinstance(result, dict):
        return {key: _values(low, add, part, (*leaf, _plain(key))) for key, part in result.items()}
    if isinstance(result, tuple | list):
        parts = [_values(low, add, part, (*leaf, index)) for index, part in enumerate(result)]
        return joined(result, parts)
    return _plain(result)
