"""Compares the GPU kernel with the plain version; run with TRITON_INTERPRET=1 it needs no GPU."""

import itertools

import torch

from snn_lightning.spiking.kernels import gpu, reference
from snn_lightning.spiking.kernels.layout import Layout

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(3, 5), (2, 3, 4), (2, 4, 11, 13), (2, 16, 9, 8)]


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape, static, state, last in itertools.product(SHAPES, *[(False, True)] * 3):
        if last and len(shape) < 4:
            continue  # There is one order of memory.
        current = torch.rand(*(() if static else (3,)), *shape, generator=generator).to(DEVICE) * 1.2 - 0.3
        if last:
            current = current.movedim(-3, -1).contiguous().movedim(-1, -3)
        channels = (shape[1], *[1] * (len(shape) - 2))
        v_th = torch.rand(channels, generator=generator).to(DEVICE) + 0.2
        bias = torch.rand(channels, generator=generator).to(DEVICE) * 0.2
        start = torch.rand(shape if state else shape[1:], generator=generator).to(DEVICE)
        arguments = (current, start, v_th, bias, 3, static)
        layout = Layout.of(current if static else current[0])
        spikes, end = reference.simulate(*arguments, False)
        counts, bits, ended = gpu.count(*arguments, True)
        assert torch.equal(counts, (spikes != 0).sum(0).to(counts.dtype))
        assert torch.equal(ended, end)
        assert torch.equal(bits, reference.pack_bits(spikes != 0, layout))
        assert torch.equal(gpu.unpack(bits, v_th, layout), spikes)
        assert torch.equal(gpu.count(*arguments, False)[0], counts)
        for overwrite in (False, True):
            got, ended = gpu.simulate(current.clone(), *arguments[1:], overwrite)
            assert torch.equal(got, spikes)
            assert torch.equal(ended, end)
        print("equal", shape, static, state, last)


if __name__ == "__main__":
    main()
