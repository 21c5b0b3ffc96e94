"""A device for the cases: tensors in its memory, launches of kernels by name, and comparisons with what is expected."""

import struct
import zlib

import numpy as np

from machine import Program, launch
from memory import GLOBAL, READ, SET, WRITE, Fault, Heap
from ptx_text import Module

TYPES = {"f32": np.float32, "bf16": np.uint16, "i32": np.int32, "u64": np.uint64, "f64": np.float64}
ROUNDING = {"f32": 2.0**-24, "bf16": 2.0**-8, "f64": 2.0**-53}  # of one result, relative
ELEMENT = {"f32": "float", "bf16": "Bf16"}

MOST_PROGRAMS = 16  # kept translated; some take many megabytes

# Of struct.pack, of a kernel's arguments: Rows and View (kernels/cuda/packs.cuh, kernels.h).
ROWS, VIEW = "Pq", "PqqqB7x"


class Wrong(Exception):
    """A result that is not what the reference says."""


def rounded(values, storage):
    """As stored, and the numbers that this means."""
    if storage != "bf16":
        stored = np.asarray(values).astype(TYPES[storage])
        return stored, stored.astype(np.float64) if storage[0] == "f" else stored
    bits = np.asarray(values, np.float32).view(np.uint32)
    stored = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return stored, widened(stored)


def widened(stored):
    return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


class Tensor:
    """Rows of `cols` elements, `stride` elements apart. `exact`: the numbers that it was given."""

    def __init__(self, heap, at, shape, stride, storage):
        self.heap, self.at, self.shape, self.stride, self.storage = heap, at, shape, stride, storage
        self.address = GLOBAL + at
        self.size = np.dtype(TYPES[storage]).itemsize

    def bytes_of(self, memory):
        """This tensor's elements in an array of the heap's size, as rows of bytes: a view."""
        rows, cols = self.shape
        return np.lib.stride_tricks.as_strided(memory[self.at :], (rows, cols * self.size), (self.stride * self.size, 1))

    def values(self):
        found = np.ascontiguousarray(self.bytes_of(self.heap.data)).view(TYPES[self.storage]).reshape(self.shape)
        if not (self.bytes_of(self.heap.allowed) & SET).all():
            raise Wrong("a part of a result is never written")
        return widened(found) if self.storage == "bf16" else found.astype(np.float64) if self.storage == "f32" else found

    def beyond(self, elements):
        """The address so many elements on."""
        return self.address + elements * self.size


def rows(tensor):
    return (tensor.address, tensor.stride) if tensor else (0, 0)


def view(tensor):
    return (tensor.address, *tensor.shape, tensor.stride, tensor.storage == "bf16") if tensor else (0, 0, 0, 0, 0)


def vectors(*tensors):
    """packs.cuh, vectorizable: whether all rows begin at multiples of 16 bytes."""
    return all(t is None or (t.address % 16 == 0 and (t.shape[0] <= 1 or t.stride * t.size % 16 == 0)) for t in tensors)


def pack(formats, *values):
    """A struct as C++ lays it out; tensors are their addresses, None is null."""
    plain = [v.address if isinstance(v, Tensor) else 0 if v is None else v for v in values]
    align = max(struct.calcsize(c) for c in formats if c.isalpha() and c != "x")
    found = struct.pack("@" + formats, *plain)
    return found + bytes(-len(found) % align)


class Device:
    """`remove`: (file, kernel, instruction) that is left out. `dry`: nothing runs or is compared; launches are noted."""

    modules, programs = {}, {}

    def __init__(self, folder, case, remove=None, dry=False):
        self.folder, self.case, self.remove, self.dry = folder, case, remove, dry
        self.heap, self.launched, self.errors, self.work = Heap(), [], [], 0
        self.random = np.random.default_rng(zlib.crc32(case.encode()))

    # ---- tensors

    def tensor(self, shape, storage, stride, offset, allowed):
        rows_, cols = shape = (1, shape) if np.isscalar(shape) else tuple(shape)
        stride = stride or cols
        size = np.dtype(TYPES[storage]).itemsize
        at = self.heap.room(((rows_ - 1) * stride + cols) * size if rows_ else 0, offset * size)
        made = Tensor(self.heap, at, shape, stride, storage)
        made.bytes_of(self.heap.allowed)[:] = allowed
        return made

    def given(self, values, storage="f32", stride=None, offset=0, writable=False):
        """A tensor that kernels may read, or change too."""
        stored, exact = rounded(np.atleast_2d(values), storage)
        made = self.tensor(stored.shape, storage, stride, offset, READ | SET | (WRITE if writable else 0))
        made.bytes_of(self.heap.data)[:] = np.ascontiguousarray(stored).view(np.uint8).reshape(stored.shape[0], -1)
        made.exact = exact
        return made

    def room(self, shape, storage="f32", stride=None, offset=0):
        """A tensor in which nothing stands yet."""
        return self.tensor(shape, storage, stride, offset, READ | WRITE | (SET if self.dry else 0))

    def normal(self, rows_, cols, storage="f32", stride=None, writable=False, scale=1.0, shift=0.0, offset=0):
        values = scale * self.random.standard_normal((rows_, cols)) + shift
        return self.given(values, storage, stride, offset, writable)

    # ---- kernels

    def program(self, file, name):
        if file not in self.modules:
            self.modules[file] = Module(f"{self.folder}/{file}.ptx")
        module = self.modules[file]
        if name not in module.starts:
            raise Wrong(f"{file}.cu has no kernel {name}")
        key = (file, name)
        program = self.programs.pop(key, None) or Program(module.kernel(name))
        self.programs[key] = program
        if len(self.programs) > MOST_PROGRAMS:
            oldest = next(iter(self.programs))
            del self.programs[oldest]
            self.modules[oldest[0]].kernels.pop(oldest[1], None)
        if self.remove and self.remove[:2] == key:
            return Program(program.kernel, (self.remove[2],), program)
        return program

    def launch(self, file, name, grid, threads, *arguments, shared=0):
        """`arguments`: structs as bytes, tensors, numbers: in the form of the kernel's parameters."""
        grid = tuple(grid) + (1,) * (3 - len(grid)) if isinstance(grid, tuple) else (grid, 1, 1)
        self.launched.append((file, name))
        self.work += grid[0] * grid[1] * grid[2] * threads
        if self.dry:
            return
        program = self.program(file, name)
        parameters = bytearray()
        wanted = program.kernel.parameters
        if len(wanted) != len(arguments):
            raise Wrong(f"{name} takes {len(wanted)} arguments, not {len(arguments)}")
        for one, argument in zip(wanted, arguments):
            parameters += bytes(-len(parameters) % one.align) + as_bytes(argument, one, name)
        try:
            launch(program, self.heap, bytes(parameters), grid, threads, shared)
        except Fault as fault:
            raise Fault(f"{name}: {fault}") from None

    # ---- results

    def close(self, what, tensor, want, roundings, of=None, size=None):
        """Each element within so many roundings, in the storage `of` (its own), of `size`: what was added up to make it, as
        magnitudes; without it, its own size and that of all elements in the mean."""
        if self.dry:
            return
        got = tensor.values() if isinstance(tensor, Tensor) else tensor
        storage = of or (tensor.storage if isinstance(tensor, Tensor) else "f32")
        want = np.asarray(want, np.float64).reshape(got.shape)
        size = np.abs(want) + np.sqrt(np.mean(want**2)) if size is None else np.reshape(size, got.shape)
        bound = roundings * ROUNDING[storage] * size
        error = np.abs(got - want)
        self.errors.append(float(np.max(error / np.where(size > 0, size, 1))) / ROUNDING[storage] / roundings)
        if not (error <= bound).all():
            at = np.unravel_index(int(np.argmax(np.where(error <= bound, 0, 1))), got.shape)
            raise Wrong(
                f"{what} at {tuple(int(i) for i in at)}: {got[at]:.9g}, expected {want[at]:.9g}; "
                f"{int((~(error <= bound)).sum())} of {got.size} are wrong"
            )

    def equal(self, what, got, want):
        if not self.dry and not np.array_equal(got, want):
            raise Wrong(f"{what}: not what it should be")


def as_bytes(argument, parameter, name):
    if isinstance(argument, Tensor):
        argument = argument.address
    if argument is None:
        argument = 0
    if isinstance(argument, bytes):
        made = argument
    elif isinstance(argument, float):
        made = struct.pack("<f" if parameter.size == 4 else "<d", argument)
    else:
        made = int(argument).to_bytes(parameter.size, "little", signed=int(argument) < 0)
    if len(made) != parameter.size:
        raise Wrong(f"{name} takes {parameter.size} bytes for {parameter.name.split('_')[-1]}, not {len(made)}")
    return made
