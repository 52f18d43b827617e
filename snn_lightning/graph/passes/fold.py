"""Fold batch norms into what they follow, by data flow."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snn_lightning.graph.capture.rules import BATCH_NORM
from snn_lightning.graph.ir import readers, tree_leaves, tree_map
from snn_lightning.graph.network import StageNetwork
from snn_lightning.graph.operators import TRANSPOSED, Affine, traits_of


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return a batch norm in eval mode as `scale_c * x + shift_c`.

    Returns:
        scale = γ/σ and shift = β - μγ/σ, both `[C]`, with σ = sqrt(variance + eps).
    """
    mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    gamma = norm.weight if norm.weight is not None else torch.ones_like(mean)
    beta = norm.bias if norm.bias is not None else torch.zeros_like(mean)
    scale = gamma.double() / torch.sqrt(var.double() + norm.eps)
    return scale.to(mean.dtype), (beta.double() - mean.double() * scale).to(mean.dtype)


@torch.no_grad()
def fold_into(synapse: nn.Module, norm: _BatchNorm) -> nn.Module:
    """Fold a batch norm into the convolution or linear layer before it, in place (PC eq. 25).

    `W := W γ/σ`, `b := β + (b - μ) γ/σ`.

    Args:
        synapse: convolution or linear with weight `[C, ...]`, or transposed convolution with weight `[in, C /
            groups, ...]`.
        norm: batch norm over the same C channels.

    Returns:
        The same synapse; it has a bias `[C]` now.
    """
    scale, shift = scale_and_shift(norm)
    weight, bias = cast(Tensor, synapse.weight), cast("Tensor | None", synapse.bias)
    if isinstance(synapse, TRANSPOSED):
        # Each group of input channels has its own output channels.
        rows = scale.view(synapse.groups, -1).repeat_interleave(weight.shape[0] // synapse.groups, dim=0)
        shaped = rows.view(*weight.shape[:2], *[1] * (weight.dim() - 2))
    else:
        shaped = scale.view(-1, *[1] * (weight.dim() - 1))
    synapse.weight = nn.Parameter(weight * shaped, requires_grad=False)
    synapse.bias = nn.Parameter(shift if bias is None else bias * scale + shift, requires_grad=False)
    return synapse


def fold_batch_norms(network: StageNetwork) -> StageNetwork:
    """Fold every batch norm that alone reads a synapse; the others become affine operators.

    Returns:
        A new network without batch norms. Every call of a shared module has parameters of its own already, so
        a convolution called twice and followed by two different batch norms is folded right.
    """
    nodes, modules = dict(network.nodes), dict(network.operators.items())
    read_by, outputs = readers(nodes), set(tree_leaves(network.output))
    renamed: dict[str, str] = {}
    for name, node in list(nodes.items()):
        node = nodes[name] = replace(node, inputs=tuple(renamed.get(key, key) for key in node.inputs))
        if node.op != BATCH_NORM:
            continue
        norm, source = cast(_BatchNorm, modules[name]), node.inputs[0]
        alone = len(read_by.get(source, ())) == 1 and source not in outputs
        if source in modules and _takes_batch_norm(modules[source]) and alone:
            fold_into(modules[source], norm)
            settings = {**nodes[source].settings, "bias": True}
            nodes[source] = replace(nodes[source], settings=settings)
            del nodes[name], modules[name]
            renamed[name] = source
            read_by[source] = read_by[name]
            outputs |= {source} if name in outputs else set()
        else:
            affine = Affine(norm.num_features)
            affine.weight, affine.bias = (part.detach().clone() for part in scale_and_shift(norm))
            modules[name] = affine
            nodes[name] = replace(node, op="Affine", settings={"channels": norm.num_features})
    output = tree_map(lambda name: renamed.get(name, name), network.output)
    return StageNetwork(nodes.values(), output, modules)


def _takes_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, TRANSPOSED) or traits_of(module).channels_lead
