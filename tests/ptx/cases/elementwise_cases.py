"""Ops on elements and on groups of columns: elementwise.cu, accumulate.cu, groups.cu, quantize.cu, moving_average.cu."""

import math

import numpy as np

from case import GAPS, LAYOUTS, STORAGES, Rows, cases, map_launch, sigmoid, slope
from device import ELEMENT, ROWS, pack, rows, vectors


def relu(x):
    return np.where(np.real(x) > 0, x, 0)


def gelu(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def integral(x):
    return (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


ACTIVATIONS = {
    "Relu": (relu, lambda x: slope(relu, x)),
    "Gelu": (gelu, lambda x: slope(gelu, x)),
    "ReluSquared": (lambda x: relu(x) ** 2, lambda x: 2 * relu(x)),
    "GeluErf": (lambda x: x * integral(x), lambda x: integral(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    "Silu": (lambda x: x * sigmoid(x), lambda x: slope(lambda z: z * sigmoid(z), x)),
}


@cases("activation", ACTIVATIONS, STORAGES, LAYOUTS)
def activation(device, name, storage, layout):
    forward, derivative = ACTIVATIONS[name]
    make = Rows(device, layout, storage)
    x, d_out, out, d_x, again = make.given(scale=2), make.given(), make.room(), make.room(), make.room()
    vector = vectors(x, out)
    map_launch(
        device,
        "elementwise",
        f"Activate<{name}, {ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(2 * ROWS + "?", *rows(out), *rows(x), vector),
    )
    map_launch(
        device,
        "elementwise",
        f"ActivateBackward<{name}, {ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(4 * ROWS + "?", *rows(d_x), *rows(d_out), *rows(x), *rows(again), vector),
    )
    # Rounded exponents, of size 10 here, are what f32 loses most by.
    roundings = 32 if storage == "f32" else 2
    device.close("out", out, forward(x.exact), roundings)
    device.close("d_x", d_x, d_out.exact * derivative(x.exact), roundings)
    device.close("out again", again, forward(x.exact), roundings)


@cases("bias and activation", ACTIVATIONS, STORAGES, LAYOUTS)
def bias_and_activation(device, name, storage, layout):
    make = Rows(device, layout, storage)
    out, activated, bias = make.given(writable=True), make.room(), device.normal(1, make.cols)
    vector = vectors(out, activated, bias)
    map_launch(
        device,
        "elementwise",
        f"AddBiasAndActivate<{name}, {ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(2 * ROWS + "P?", *rows(out), *rows(activated), bias, vector),
    )
    device.close("sum", out, out.exact + bias.exact, 2)
    device.close("activated", activated, ACTIVATIONS[name][0](out.values()), 8 if storage == "f32" else 2)


@cases("swiglu", STORAGES, LAYOUTS)
def swiglu(device, storage, layout):
    make = Rows(device, layout, storage)
    F = make.cols
    x, d_x, d_out, out, again = make.given(2 * F), make.room(2 * F), make.given(), make.room(), make.room()
    gate, up = x.exact[:, :F], x.exact[:, F:]
    second, d_second = x.beyond(F), d_x.beyond(F)
    vector = vectors(x, d_x, d_out, out) and F % 8 == 0
    map_launch(
        device,
        "elementwise",
        f"Swiglu<{ELEMENT[storage]}>",
        make.rows,
        F,
        pack(3 * ROWS + "?", *rows(out), *rows(x), second, x.stride, vector),
    )
    map_launch(
        device,
        "elementwise",
        f"SwigluGradient<{ELEMENT[storage]}>",
        make.rows,
        F,
        pack(6 * ROWS + "?", *rows(d_x), d_second, d_x.stride, *rows(d_out), *rows(x), second, x.stride, *rows(again), vector),
    )
    device.close("out", out, gate * sigmoid(gate) * up, 8 if storage == "f32" else 2)
    device.close("out again", again, gate * sigmoid(gate) * up, 8 if storage == "f32" else 2)
    d_gate = d_out.exact * up * slope(lambda z: z * sigmoid(z), gate)
    device.close("d_x", d_x, np.concatenate([d_gate, d_out.exact * gate * sigmoid(gate)], 1), 8 if storage == "f32" else 2)


@cases("copy", STORAGES, STORAGES, LAYOUTS)
def copy(device, to, source, layout):
    make = Rows(device, layout, source)
    x, out = make.given(), make.room(storage=to)
    map_launch(
        device,
        "elementwise",
        f"CopyRows<{ELEMENT[to]}, {ELEMENT[source]}>",
        make.rows,
        make.cols,
        pack(2 * ROWS + "?", *rows(out), *rows(x), vectors(out, x)),
    )
    device.close("out", out, x.exact, 1)


@cases("fill", (("unsigned short", "bf16", "H"), ("unsigned int", "i32", "I"), ("unsigned long", "u64", "Q")))
def fill(device, kind):
    make = Rows(device, GAPS, kind[1])
    out = make.room()
    map_launch(device, "elementwise", f"FillRows<{kind[0]}>", make.rows, make.cols, pack(ROWS + kind[2], *rows(out), 0x3F80))
    device.equal("out", out.values(), np.full(out.shape, 1 if kind[1] == "bf16" else 0x3F80))


@cases("accumulate", STORAGES, LAYOUTS)
def accumulate(device, storage, layout):
    make = Rows(device, layout, storage)
    x, out = make.given(), make.given(writable=True)
    map_launch(
        device,
        "accumulate",
        f"Sum<{ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(2 * ROWS + "?", *rows(out), *rows(x), vectors(out, x)),
    )
    device.close("out", out, out.exact + x.exact, 2)


@cases("moving average", LAYOUTS)
def moving_average(device, layout):
    make = Rows(device, layout, "f32", rows=1, cols=1003)
    x, average = make.given(), make.given(writable=True)
    map_launch(device, "moving_average", "Average", 1, make.cols, pack("PPff?", average, x, 0.9, 0.1, vectors(x, average)))
    device.close("average", average, 0.9 * average.exact + 0.1 * x.exact, 4)


# ---- groups of columns


GATES = {"SigmoidGate": sigmoid, "PlainGate": lambda logit: logit}


@cases("element gate", STORAGES, LAYOUTS, GATES)
def element_gate(device, storage, layout, kind):
    gate_of = GATES[kind]
    make = Rows(device, layout, storage)
    x, logits, d_out, out, d_x, d_logits = make.given(), make.given(), make.given(), make.room(), make.room(), make.room()
    vector = vectors(x, logits, d_out, out, d_x, d_logits)
    map_launch(
        device,
        "groups",
        f"ElementGate<{ELEMENT[storage]}, {kind}>",
        make.rows,
        make.cols,
        pack(3 * ROWS + "?", *rows(out), *rows(x), *rows(logits), vector),
    )
    map_launch(
        device,
        "groups",
        f"ElementGateBackward<{ELEMENT[storage]}, {kind}>",
        make.rows,
        make.cols,
        pack(5 * ROWS + "?", *rows(d_x), *rows(d_logits), *rows(d_out), *rows(x), *rows(logits), vector),
    )
    gate = gate_of(logits.exact)
    device.close("out", out, gate * x.exact, 8 if storage == "f32" else 2)
    device.close("d_x", d_x, gate * d_out.exact, 8 if storage == "f32" else 2)
    device.close("d_logits", d_logits, d_out.exact * x.exact * slope(gate_of, logits.exact), 8 if storage == "f32" else 2)


@cases("head gate", STORAGES, ((24, 3), (7, 5), (130, 2)), GATES)
def head_gate(device, storage, head, kind):
    gate_of = GATES[kind]
    D, H = head
    make = Rows(device, "whole" if D % 8 == 0 else GAPS, storage, rows=11, cols=D * H)
    x, logits, d_out, out = make.given(), make.given(H), make.given(), make.room()
    d_x, d_logits, norms = make.room(), make.room(H), make.room(H, "f32")
    vector = vectors(x, out, d_out, d_x)
    map_launch(
        device,
        "groups",
        f"HeadGate<{ELEMENT[storage]}, {kind}>",
        make.rows,
        make.cols,
        pack(3 * ROWS + "q?", *rows(out), *rows(x), *rows(logits), D, vector),
    )
    blocks = -(-make.rows * H // 32)
    device.launch(
        "groups",
        f"group_kernel<HeadGateBackward<{ELEMENT[storage]}, {kind}>>",
        blocks,
        256,
        make.rows,
        H,
        D,
        pack(5 * ROWS + "?", *rows(d_x), *rows(d_logits), *rows(d_out), *rows(x), *rows(logits), vector and D % 8 == 0),
    )
    device.launch(
        "groups",
        f"group_kernel<GroupNorm<{ELEMENT[storage]}>>",
        blocks,
        256,
        make.rows,
        H,
        D,
        pack(2 * ROWS + "?", *rows(norms), *rows(x), vector and D % 8 == 0),
    )
    gate = np.repeat(gate_of(logits.exact), D, axis=1)
    device.close("out", out, gate * x.exact, 8 if storage == "f32" else 2)
    device.close("d_x", d_x, gate * d_out.exact, 8 if storage == "f32" else 2)
    dots = (d_out.exact * x.exact).reshape(make.rows, H, D).sum(2)
    device.close("d_logits", d_logits, dots * slope(gate_of, logits.exact), 32 if storage == "f32" else 2)
    device.close("norms", norms, np.sqrt((x.exact**2).reshape(make.rows, H, D).sum(2)), 8)


@cases("quantize", STORAGES, LAYOUTS, ("one scale", "scales of rows"))
def quantize(device, storage, layout, scales):
    make = Rows(device, layout, storage, cols=40 if layout == "whole" else 300)
    per_row = scales != "one scale"
    x, out, ranges = make.given(scale=3), make.room(), device.room((make.rows, 2))
    scale = device.given(0.05 + 0.01 * np.arange(make.rows if per_row else 1))
    map_launch(
        device,
        "quantize",
        f"QuantizeRows<{ELEMENT[storage]}>",
        make.rows,
        make.cols,
        pack(2 * ROWS + "P??ff", *rows(out), *rows(x), scale, per_row, vectors(x, out), -100.0, 27.0),
    )
    device.launch(
        "quantize",
        f"row_ranges_kernel<{ELEMENT[storage]}>",
        -(-make.rows * 32 // 256),
        256,
        ranges,
        pack(ROWS, *rows(x)),
        make.rows,
        make.cols,
        vectors(x),
    )
    step = scale.exact.T.astype(np.float32)
    steps = np.rint(np.clip(x.exact.astype(np.float32) * (np.float32(1) / step), np.float32(-100), np.float32(27)))
    device.close("out", out, steps.astype(np.float64) * step, 2)
    device.equal("ranges", ranges.values(), np.stack([x.exact.min(1), x.exact.max(1)], 1))
