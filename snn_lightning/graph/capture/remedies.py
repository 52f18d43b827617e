"""What a user can do about an operator that can't be converted."""

from __future__ import annotations

import re

DEFAULT = (
    "it has no spiking counterpart here; replace it by supported operators, "
    "or convert the part of the model without it"
)
REMEDIES = {
    "smooth": "smooth gates and activations have no spiking counterpart; train with ReLU or ReLU6 "
    "(LeakyReLU and PReLU convert too)",
    "norm": "it normalises by the statistics of each input, which spikes don't have; use batch norm",
    "softmax": "take it out of the network and apply it to the SNN's output, which has the ANN's scale",
    "inner softmax": "inside a network a softmax divides activations by one another, which neurons can't; "
    "use a ReLU, or convert the part of the model in front of it",
    "product": "a product of two activations is no synapse; networks with gates or attention don't convert",
    "comparison": "a comparison of an activation is a neuron only as torch.where(x > 0, x, 0) or "
    "x * (x > 0); use ReLU",
    "attention": "attention multiplies activations by activations and divides them by one another, which "
    "neurons can't; use convolutions or linear layers instead, or convert the part of the model in front of "
    "it",
    "recurrent": "its state is no membrane potential; only feed-forward networks convert",
}
_NAMES = {
    "smooth": "sigmoid silu gelu hardswish hardsigmoid swish mish elu selu celu tanh softplus "
    "logsigmoid softsign tanhshrink",
    "norm": "layernorm groupnorm instancenorm rmsnorm layer_norm group_norm instance_norm rms_norm normalize "
    "localresponsenorm local_response_norm",
    "softmax": "softmax log_softmax logsoftmax softmin",
    "product": "mul glu bilinear",
    "attention": "multiheadattention scaled_dot_product_attention multi_head_attention_forward "
    "shifted_window_attention transformerencoderlayer transformerdecoderlayer transformerencoder "
    "transformerdecoder transformer",
    "recurrent": "rnn lstm gru rnncell lstmcell grucell",
}
REMEDY_BY_NAME = {name: key for key, names in _NAMES.items() for name in names.split()}
"""Key into `REMEDIES` by the lower-case name of a module, function or method, without a final `2d` or `_`."""


def remedy(name: str, last: bool = True) -> str:
    """Return what to do about the operator called `name`.

    Args:
        name: class of a module, or name of a function or method.
        last: whether its result is an output of the network.
    """
    key = REMEDY_BY_NAME.get(re.sub(r"(\dd|_)$", "", name.lower()))
    if key == "softmax" and not last:
        key = "inner softmax"
    return REMEDIES[key] if key is not None else DEFAULT
