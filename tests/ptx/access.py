"""The instructions that touch memory or other lanes, each with its checks."""

import functools

import numpy as np

import arithmetic
from memory import LOCAL, PARAMETERS, SET, SHARED, Fault, check_aligned

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
ALL_LANES = 0xFFFFFFFF


def blamed(method):
    """A fault names the instruction and its source line."""

    @functools.wraps(method)
    def run(self, at, *args):
        try:
            return method(self, at, *args)
        except Fault as fault:
            raise Fault(f"{fault}; {self.kernel.instructions[at].text} ({self.kernel.where(at)})") from None

    return run


class Access:
    """What the functions of a wave's blocks call. `I`: the lanes, all of them (a slice) or their numbers."""

    def numbers_of(self, lanes):
        return np.arange(self.lanes.count) if isinstance(lanes, slice) else lanes

    def lanes_of(self, value, lanes):
        """A register's or a constant's values of these lanes."""
        if np.ndim(value):
            return value[lanes]
        return np.full(self.numbers_of(lanes).size, value)

    def address_of(self, symbol):
        return self.symbols[symbol] if symbol in self.symbols else PARAMETERS + self.offsets[symbol]

    def parameter(self, name, offset, kind):
        return np.frombuffer(self.parameters, kind, 1, self.offsets[name] + offset)[0]

    def window(self, space, address):
        """The space that a generic address means, and the address in it."""
        if space == "param":
            return space, address - np.uint64(PARAMETERS)
        if space != "generic":
            return space, address
        if (address >= SHARED).all():
            return "shared", address - np.uint64(SHARED)
        if ((address >= LOCAL) & (address < SHARED)).all():
            return "local", address - np.uint64(LOCAL)
        if (address >= LOCAL).any():
            raise Fault("lanes go to different kinds of memory at once")
        return "global", address

    def reach(self, space, address, me, size, writes):
        """Checks an access of `size` bytes of each lane. Returns the memory's bytes and the places in it."""
        if space == "local":
            return self.local.data, self.local.locate(address, me, size, writes)
        if space == "global":
            at, places, each = self.memory.locate(address, size, writes)
            data, races = self.memory.heap.data, self.memory.races
        else:
            at = self.shared.locate(address, self.block_of[me], size)
            data, races = self.shared.data, self.shared.races
            places, each = races.grains(at, size)
            if not writes:
                self.shared.check_set(places)
        who = np.repeat(me, each) if each > 1 else me
        races.check(places, who, self.lanes, writes)
        if writes:
            races.note_write(places, who, self.lanes)
            if space == "global":
                self.memory.allowed[places] |= SET
        else:
            races.note_read(places, who, self.lanes)
        return data, at

    @blamed
    def load(self, _, space, lanes, address, size, count):
        me = self.numbers_of(lanes)
        space, address = self.window(space, self.lanes_of(address, lanes))
        if space == "param":
            data, at = np.frombuffer(self.parameters + bytes(-len(self.parameters) % 8), np.uint8), address.astype(np.int64)
            check_aligned(at, size * count)
        else:
            data, at = self.reach(space, address, me, size * count, False)
        words = data.view(WORDS[size])
        return [words[at // size + i] for i in range(count)]

    @blamed
    def store(self, _, space, lanes, address, size, values):
        me = self.numbers_of(lanes)
        space, address = self.window(space, self.lanes_of(address, lanes))
        data, at = self.reach(space, address, me, size * len(values), True)
        words = data.view(WORDS[size])
        for i, value in enumerate(values):
            words[at // size + i] = value

    @blamed
    def div_integers(self, _, mask, x, y):
        return arithmetic.quotient(x, self.divisor(mask, y))

    @blamed
    def rem_integers(self, _, mask, x, y):
        y = self.divisor(mask, y)
        return x - arithmetic.quotient(x, y) * y

    def divisor(self, mask, y):
        y = np.where(mask, y, np.asarray(y).dtype.type(1))
        if (y == 0).any():
            raise Fault("division by zero")
        return y

    # ---- asynchronous copies: sixteen bytes each, which lie there once the lane has waited

    @blamed
    def copies_start(self, _, lanes, to, source, count):
        me = self.numbers_of(lanes)
        count = self.lanes_of(count, lanes).astype(np.int64)
        source = self.lanes_of(source, lanes)
        check_aligned(source, 16)
        reads = count > 0
        start = np.zeros(me.size, np.int64)
        if reads.any():
            _, start[reads] = self.reach("global", source[reads], me[reads], 16, False)
        at = self.shared.locate(self.lanes_of(to, lanes), self.block_of[me], 16)
        races = self.shared.races
        places, each = races.grains(at, 16)
        who = np.repeat(me, each)
        races.check(places, who, self.lanes, True)
        races.note_write(places, who, self.lanes)
        races.coming[places] += 1
        self.copies.append((me, at, start, count, self.groups[me].copy()))

    def copies_commit(self, lanes):
        self.groups[lanes] += 1

    @blamed
    def copies_wait(self, _, lanes, behind):
        """All but the last `behind` groups of copies of each lane arrive."""
        waits = np.zeros(self.lanes.count, bool)
        waits[lanes] = True
        left = []
        for me, at, start, count, group in self.copies:
            done = waits[me] & (group < self.groups[me] - behind)
            if done.any():
                self.arrive(me[done], at[done], start[done], count[done])
            if not done.all():
                left.append(tuple(part[~done] for part in (me, at, start, count, group)))
        self.copies = left

    def arrive(self, me, at, start, count):
        races = self.shared.races
        places, each = races.grains(at, 16)
        races.coming[places] -= 1
        races.note_write(places, np.repeat(me, each), self.lanes)
        byte = np.arange(16)
        found = self.memory.heap.data[start[:, None] + byte]
        self.shared.data[at[:, None] + byte] = np.where(byte < count[:, None], found, 0)

    # ---- whole warps

    def warp_barrier(self, lanes):
        self.lanes.warp_age[lanes] += 1

    @blamed
    def shuffle(self, _, mode, value, operand, clamp, members):
        if (members != ALL_LANES).any():
            raise Fault("a shuffle of a part of a warp")
        return arithmetic.shuffled(mode, value, operand, clamp)

    @blamed
    def load_matrices(self, _, lanes, address, count, transposed):
        """Of every warp `count` matrices of 8 x 8 halves: lane 8 i + r names row r of matrix i."""
        me = self.numbers_of(lanes)
        named = np.arange(me.size) % 32 < 8 * count
        me, address = me[named], address[named]
        at = self.shared.locate(address, self.block_of[me], 16)
        races = self.shared.races
        places, each = races.grains(at, 16)
        who = np.repeat(me, each)
        self.shared.check_set(places)
        races.check(places, who, self.lanes, False, True)
        races.note_read(places, who, self.lanes, True)
        rows = self.shared.data.view(np.uint16)[at[:, None] // 2 + np.arange(8)].reshape(-1, count, 8, 8)
        if transposed:
            rows = rows.transpose(0, 1, 3, 2)
        pairs = rows.reshape(-1, count, 32, 2).astype(np.uint32)
        words = pairs[..., 0] | pairs[..., 1] << np.uint32(16)
        return [words[:, i].reshape(-1) for i in range(count)]

    def multiply_matrices(self, shape, kind, a, b, c):
        if shape != {"bf16": "m16n8k16", "tf32": "m16n8k8"}.get(kind):
            raise Fault(f"mma {shape} {kind}: not learned yet")
        return arithmetic.multiplied(kind, a, b, c)
