"""optimizer.cu: updates of parameters, sums, Muon."""

import numpy as np

from case import GAPS, LAYOUTS, STORAGES, WHOLE, Rows, cases, map_launch
from device import ELEMENT, ROWS, pack, rows, vectors

# n, whether all begin at multiples of 16 bytes.
RANGES = (("whole", 1003), ("gaps", 300))


def parts(device, layout, n, count):
    """Parameters and state of n elements, and a bf16 copy's place."""
    offset = 0 if layout == WHOLE else 1
    made = [device.normal(1, n, writable=i < count - 1, offset=offset) for i in range(count)]
    return (*made, device.room(n, "bf16", offset=offset))


@cases("adamw", RANGES, ("copy", "no copy"))
def adamw(device, size, what):
    p, m, v, grad, copy = parts(device, *size, 4)
    v.exact = np.abs(v.exact)
    v.bytes_of(device.heap.data)[:] = v.exact.astype(np.float32).view(np.uint8)
    beta1, beta2, lr, decay, epsilon, step, scale = 0.9, 0.99, 0.01, 0.1, 1e-8, 3, 0.5
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    factors = (scale, beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * decay, lr / correction1, 1 / np.sqrt(correction2), epsilon)
    to = copy if what == "copy" else None
    map_launch(
        device, "optimizer", "AdamW", 1, size[1], pack("PPPPP9f?", p, m, v, grad, to, *factors, vectors(p, m, v, grad, to))
    )
    g = scale * grad.exact
    first, second = beta1 * m.exact + (1 - beta1) * g, beta2 * v.exact + (1 - beta2) * g * g
    want = p.exact * (1 - lr * decay) - lr * (first / correction1) / (np.sqrt(second / correction2) + epsilon)
    for name, tensor, expected in (("m", m, first), ("v", v, second), ("p", p, want)):
        device.close(name, tensor, expected, 8)
    if to:
        device.close("copy", copy, want, 1.01)


@cases("sgd", RANGES, ("momentum", "no momentum"))
def sgd(device, size, what):
    p, m, grad, copy = parts(device, *size, 3)
    scale, decay, momentum, lr = 0.5, 0.1, 0.9 if what == "momentum" else 0.0, 0.01
    state = m if momentum else None
    map_launch(
        device,
        "optimizer",
        "Sgd",
        1,
        size[1],
        pack("PPPP4f?", p, state, grad, copy, scale, decay, momentum, lr, vectors(p, state, grad, copy)),
    )
    first = momentum * m.exact + scale * grad.exact + decay * p.exact
    if state:
        device.close("m", m, first, 8)
    device.close("p", p, p.exact - lr * first, 8)
    device.close("copy", copy, p.exact - lr * first, 1.01)


def sum_blocks(n):
    return min(max(n // 4096, 1), 256)


@cases("sums", STORAGES, (1003, 9001), ("sum", "squares"))
def sums(device, storage, n, what):
    x = device.normal(1, n, storage, shift=0.5, offset=0 if n == 1003 else 1)
    partial = device.room(sum_blocks(n), "f64")
    device.launch(
        "optimizer",
        f"partial_sums_kernel<{ELEMENT[storage]}>",
        sum_blocks(n),
        512,
        partial,
        x,
        n,
        what == "squares",
        vectors(x),
    )
    want = (x.exact**2).sum() if what == "squares" else x.exact.sum()
    device.close("sum", partial.values().sum(keepdims=True).reshape(1), [want], 2.0**14, "f64")


@cases("muon", STORAGES, LAYOUTS)
def muon(device, storage, layout):
    n, beta, scale = 9000 if layout == WHOLE else 9001, 0.95, 0.5
    offset = 0 if layout == WHOLE else 1
    momentum, grad = device.normal(1, n, writable=True, offset=offset), device.normal(1, n, offset=offset)
    out, blocks = device.room(n, storage, offset=offset), sum_blocks(n)
    partial, factor = device.room(256, "f64"), device.room(1, "f64")
    factors, vector = pack("ff", beta, (1 - beta) * scale), vectors(momentum, grad, out)
    device.launch("optimizer", "muon_momentum_kernel", blocks, 512, momentum, grad, factors, partial, n, vector)
    device.launch("optimizer", "inverse_norm_kernel", 1, 512, partial, blocks, factor)
    map_launch(
        device,
        "optimizer",
        f"MuonDirection<{ELEMENT[storage]}>",
        1,
        n,
        pack(ROWS + "PPffP?", *rows(out), momentum, grad, beta, (1 - beta) * scale, factor, vector),
    )
    m = beta * momentum.exact + (1 - beta) * scale * grad.exact
    u = beta * m + (1 - beta) * scale * grad.exact
    device.close("momentum", momentum, m, 8)
    device.close("direction", out, u / np.sqrt((u * u).sum()), 16 if storage == "f32" else 2)


@cases("matrix sum", STORAGES, LAYOUTS)
def matrix_sum(device, storage, layout):
    make = Rows(device, layout, storage, rows=13, cols=16 if layout == WHOLE else 13)
    x, y, out = make.given(), make.given(), make.room()
    map_launch(
        device,
        "optimizer",
        f"AddMatrices<{ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(3 * ROWS + "fff?", *rows(out), *rows(x), *rows(y), 1.5, -0.5, 0.25, vectors(out, x, y)),
    )
    device.close("out", out, 1.5 * np.eye(make.rows, make.cols) - 0.5 * x.exact + 0.25 * y.exact, 4 if storage == "f32" else 2)
