"""Other libraries' converted networks, to be measured beside ours."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def spikingjelly(
    ann: nn.Module, sample: Tensor, x: Tensor, timesteps: int, expected: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """Return SpikingJelly's two step modes on the same network, after checking that they compute the same."""
    try:
        from spikingjelly.activation_based import ann2snn, functional
    except ImportError:
        return {}
    recipe = ann2snn.RateCodingRecipe([sample], mode="Max", channel_wise=True, half_threshold=True)
    net = ann2snn.Converter(recipe).convert(ann).eval()

    def single() -> Tensor:
        functional.set_step_mode(net, "s")
        functional.reset_net(net)
        return torch.stack([net(x) for _ in range(timesteps)]).mean(0)

    def multi() -> Tensor:
        functional.set_step_mode(net, "m")
        functional.reset_net(net)
        # Its stateless layers see [T * N, ...], as ours do.
        return net(x.expand(timesteps, *x.shape)).mean(0)

    runs = {}
    for mode, run in (("single-step", single), ("multi-step", multi)):
        try:
            with torch.no_grad():
                got = run()
        except Exception as error:
            print(f"SpikingJelly, {mode}: does not run on this network ({type(error).__name__}: {error})")
            continue
        same = (got.argmax(1) == expected.argmax(1)).double().mean().item()
        error = ((got - expected).norm() / expected.norm()).item()
        print(f"SpikingJelly, {mode}, T={timesteps}: same class {same:.0%}, relative difference {error:.1e}")
        runs[mode] = run
    return runs
