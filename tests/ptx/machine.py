"""Runs a kernel: blocks of a launch side by side, a lane an element of numpy arrays.

Lanes have places of their own in the code. Of those that can go on, the ones at the lowest place run one basic block together;
so they meet again where branches join. At a barrier of the block a lane waits for all threads of its block; before a block
with an instruction of whole warps (shuffles, matrix products), for its warp. Whoever waits in vain is a fault.
"""

import numpy as np

import arithmetic
from access import Access
from memory import LOCAL, SHARED, Fault, GlobalMemory, Lanes, LocalMemory, SharedMemory
from ptx_text import SIZES
from translate import COLLECTIVE, Writer

MOST_LANES = 2048  # at once
MOST_STEPS = 1_000_000  # blocks of instructions of one launch: a kernel that does not end

TYPES = {
    "u1": np.uint8,
    "u2": np.uint16,
    "u4": np.uint32,
    "u8": np.uint64,
    "s1": np.int8,
    "s2": np.int16,
    "s4": np.int32,
    "s8": np.int64,
    "f4": np.float32,
    "f8": np.float64,
    "p0": np.bool_,
}
FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        "add subtract multiply divide reciprocal sqrt fmin fmax minimum maximum negative absolute bitwise_and bitwise_or "
        "bitwise_xor invert logical_and logical_or logical_xor logical_not equal not_equal less less_equal greater "
        "greater_equal copyto where asarray"
    ).split()
}
FUNCTIONS.update(
    (name, getattr(arithmetic, name))
    for name in (
        "fma_rn_f32 fma_rm_f32 fma_rn_f64 rcp_approximate ex2_approximate saturated truncated shl_u shr_u shr_s bf16_pair "
        "tf32 permuted inserted"
    ).split()
)


class Program:
    """A kernel as Python, a function for each basic block. `skip`: instructions that are left out."""

    def __init__(self, kernel, skip=(), like=None):
        self.kernel, self.skip = kernel, frozenset(skip)
        self.code = [self.translate(block, i, like) for i, block in enumerate(kernel.blocks)]
        self.whole_warps = [any(is_collective(kernel.instructions[at]) for at in block.instructions) for block in kernel.blocks]
        self.grains = {space: self.smallest(space) for space in ("shared", "global")}

    def translate(self, block, number, like):
        """(code, constants, views), or those of another program of the same kernel where the block is the same there."""
        if like and not self.skip & set(block.instructions):
            return like.code[number]
        writer = Writer(self.kernel, self.skip)
        for at in block.instructions:
            writer.write(at)
        source = "def run(W, I):\n" + ("\n".join(writer.lines) or "  pass") + "\n"
        return compile(source, f"{self.kernel.name} block {number}", "exec"), writer.constants, writer.views

    def smallest(self, space):
        """The smallest access to a space, in bytes; a generic one may be to any."""
        sizes = [4] if space == "shared" else [8]
        for one in self.kernel.instructions:
            if one.op[0] in ("ld", "st") and "param" not in one.op:
                if space in one.op or not set(one.op) & {"shared", "global", "local"}:
                    sizes.append(SIZES[one.op[-1]])
            if one.op[0] == "ldmatrix" and space == "shared":
                sizes.append(16)
        return min(sizes)


def is_collective(one):
    return one.op[0] in COLLECTIVE or one.op[:2] == ["bar", "warp"]


class Wave(Access):
    """Some blocks of a launch, which run at once."""

    def __init__(self, program, memory, parameters, blocks, first, grid, threads, dynamic_shared):
        kernel = program.kernel
        self.program, self.kernel, self.memory, self.parameters = program, kernel, memory, parameters
        count = len(blocks) * threads
        self.lanes, self.threads = Lanes(first * threads, count, threads), threads
        self.symbols, sizes = {}, {"shared": 0, "local": 0}
        for name, (space, align, room) in sorted(kernel.arrays.items(), key=lambda one: one[1][2] == 0):
            self.symbols[name] = -(-sizes[space] // align) * align
            sizes[space] = self.symbols[name] + (room or dynamic_shared)
        self.shared = SharedMemory(len(blocks), sizes["shared"], program.grains["shared"])
        self.local = LocalMemory(count, sizes["local"])
        offset = 0
        self.offsets = {}
        for one in kernel.parameters:
            offset = -(-offset // one.align) * one.align
            self.offsets[one.name] = offset
            offset += one.size
        self.block_of = np.repeat(np.arange(len(blocks)), threads)
        thread = np.tile(np.arange(threads, dtype=np.uint32), len(blocks))
        self.specials = {"tid.x": thread, "ntid.x": np.uint32(threads), "laneid": thread % np.uint32(32)}
        for i, axis in enumerate("xyz"):
            self.specials["ctaid." + axis] = np.array([block[i] for block in blocks], np.uint32)[self.block_of]
            self.specials["nctaid." + axis] = np.uint32(grid[i])
        self.copies, self.groups = [], np.zeros(count, np.int64)
        self.functions = self.bind()

    def bind(self):
        """The blocks' functions, with registers for these lanes."""
        names = {**TYPES, **FUNCTIONS, "specials": self.specials, "SHARED": SHARED, "LOCAL": LOCAL}
        names.update(
            (name, getattr(self, name))
            for name in (
                "address_of parameter load store lanes_of div_integers rem_integers copies_commit copies_wait "
                "copies_start warp_barrier shuffle load_matrices multiply_matrices"
            ).split()
        )
        registers, functions = {}, []
        for code, constants, views in self.program.code:
            for name, (kind, size, number) in constants.items():
                names.setdefault(name, TYPES[kind + str(size)](number))
            for name, register, kind, width in views:
                if name not in names:
                    base = registers.setdefault(register, np.zeros(self.lanes.count, TYPES[f"u{width}"] if width else np.bool_))
                    names[name] = base.view(TYPES[kind + str(width)]) if width else base
            found = {}
            exec(code, names, found)
            functions.append(found["run"])
        self.registers = registers
        return functions

    # ---- the way through the code

    def run(self):
        count = self.lanes.count
        self.place, self.alive = np.zeros(count, np.int64), np.ones(count, bool)
        self.at_barrier, self.held = np.zeros(count, bool), np.zeros(count, bool)
        everyone, steps = slice(None), 0
        together = 0  # where all lanes are, or None
        while together is None or together < len(self.functions):
            steps += 1
            if steps > MOST_STEPS:
                raise Fault("does not come to an end")
            if together is not None:
                self.functions[together](True, everyone)
                together = self.go_on_together(together)
                continue
            ready = self.alive & ~self.at_barrier & ~self.held
            if not ready.any():
                if not self.alive.any():
                    break
                self.explain_standstill()
            here = int(self.place[ready].min())
            mask = ready & (self.place == here)
            if here >= len(self.functions):
                self.alive[mask] = False
                continue
            if self.program.whole_warps[here]:
                mask = self.whole_warps(mask, here)
            if mask.all():
                self.held[:] = False
                together = here
            elif mask.any():
                self.functions[here](mask, mask.nonzero()[0])
                self.go_on(here, mask)
        if any(copy is not None for copy in self.copies):
            raise Fault("an asynchronous copy is never waited for")

    def end_of(self, here):
        """How a block ends, without what is left out."""
        block = self.kernel.blocks[here]
        if block.last is None or block.last in self.program.skip:
            return None, None
        return block.end, self.kernel.instructions[block.last]

    def go_on_together(self, here):
        """As go_on for all lanes: the next block of all, or None where they part."""
        end, one = self.end_of(here)
        if end is None:
            return here + 1
        taken = None
        if one.guard:
            taken = self.registers[one.guard[0]] ^ one.guard[1]
            if not taken.any():
                return here + 1
        if taken is None or taken.all():
            if end == "branch":
                return self.kernel.block_at[one.args[-1].value]
            if end == "exit":
                return len(self.functions)
            self.pass_barrier(slice(None))
            return here + 1
        self.place[:] = here
        self.go_on(here, np.ones(self.lanes.count, bool))
        return None

    def go_on(self, here, mask):
        end, one = self.end_of(here)
        self.place[mask] = here + 1
        if end is None:
            return
        taken = mask & (self.registers[one.guard[0]] ^ one.guard[1]) if one.guard else mask
        if end == "branch":
            self.place[taken] = self.kernel.block_at[one.args[-1].value]
        elif end == "exit":
            self.alive[taken] = False
        else:
            if one.guard:
                raise Fault("a barrier under a condition")
            self.at_barrier[taken] = True
            self.open_barriers()

    def open_barriers(self):
        """Blocks all of whose threads wait at one barrier go on."""
        waiting, place = self.at_barrier.reshape(-1, self.threads), self.place.reshape(-1, self.threads)
        full = waiting.all(1) & (place == place[:, :1]).all(1)
        if full.any():
            lanes = np.repeat(full, self.threads)
            self.at_barrier[lanes] = False
            self.pass_barrier(lanes)

    def pass_barrier(self, lanes):
        self.lanes.block_age[lanes] += 1
        self.lanes.warp_age[lanes] += 1

    def whole_warps(self, mask, here):
        """Those of `mask` whose warps are complete; the others wait."""
        self.held[mask] = True
        come = (self.held & (self.place == here)).reshape(-1, 32).all(1)
        lanes = np.repeat(come, 32)
        self.held[lanes] = False
        return lanes

    def explain_standstill(self):
        if self.held.any():
            lane = int(self.held.nonzero()[0][0])
            block = self.kernel.blocks[int(self.place[lane])]
            first = next(at for at in block.instructions if is_collective(self.kernel.instructions[at]))
            raise Fault(f"an incomplete warp at {self.kernel.instructions[first].text} ({self.kernel.where(first)})")
        lane = int(self.at_barrier.nonzero()[0][0])
        last = self.kernel.blocks[int(self.place[lane]) - 1].last
        raise Fault(f"a barrier that not all threads of a block reach: {self.kernel.where(last)}")


def launch(program, heap, parameters, grid, threads, dynamic_shared=0):
    """Runs all blocks of the grid, some at a time, and checks them against each other."""
    if threads > program.kernel.most_threads or threads % 32:
        raise Fault(f"{threads} threads a block, at most {program.kernel.most_threads} in whole warps")
    memory = GlobalMemory(heap, program.grains["global"])
    blocks = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
    at_once = max(1, MOST_LANES // threads)
    with np.errstate(all="ignore"):
        for first in range(0, len(blocks), at_once):
            Wave(program, memory, parameters, blocks[first : first + at_once], first, grid, threads, dynamic_shared).run()
    memory.finish()
