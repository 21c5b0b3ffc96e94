"""Memory of the interpreted device: device memory that knows what was allocated, and who touched what since when.

Two accesses of one place, of which one writes, need an order: the same lane made both, or a barrier of the warp lies between
them (lanes of one warp), or one of the block (lanes of one block). Between blocks of a launch there is none. Without an order
it is a race, whatever comes out. Places are counted in grains, the smallest access that the kernel has, so nothing is lost.
"""

import numpy as np

GLOBAL = 1 << 32  # where device memory begins
SHARED, LOCAL, PARAMETERS = 0x7F << 40, 0x7E << 40, 0x7D << 40  # windows of generic addresses

READ, WRITE, SET = 1, 2, 4  # what may be done with a byte of device memory; and whether something stands there


class Fault(Exception):
    """What a kernel must not do."""


class Heap:
    """Device memory. Between tensors, and between a tensor's rows, lies memory that nobody may touch."""

    def __init__(self):
        self.data, self.allowed, self.top = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8), 256

    def room(self, size, offset=0):
        """The place of `size` bytes, `offset` beyond a multiple of 256."""
        at = (self.top + 255) // 256 * 256 + offset
        self.top = at + size + 64
        if self.top > self.data.size:
            more = max(self.top, 2 * self.data.size) // 256 * 256 + 256 - self.data.size
            self.data = np.concatenate([self.data, np.full(more, 0xA5, np.uint8)])
            self.allowed = np.concatenate([self.allowed, np.zeros(more, np.uint8)])
        return at


class Lanes:
    """The lanes that run at once, numbered from `base` in the launch, and how many barriers each has passed."""

    def __init__(self, base, count, threads):
        self.base, self.count, self.threads = base, count, threads
        self.block_age = np.zeros(count, np.int32)  # barriers of the lane's block
        self.warp_age = np.zeros(count, np.int32)  # barriers of its warp, the block's too


ONE, WARP, BLOCK, LAUNCH = 0, 1, 2, 3  # who reads one place: a lane, lanes of a warp, warps of a block, blocks


class Races:
    """Of every grain, the last writer and the readers since then."""

    def __init__(self, size, grain):
        self.grain = grain
        count = -(-size // grain)
        self.writer, self.reader = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        self.written = np.zeros((2, count), np.int32)  # ages at the last write: the block's, the warp's
        self.read = np.zeros((2, count), np.int32)
        self.readers = np.zeros(count, np.int8)
        self.coming = np.zeros(count, np.int16)  # asynchronous copies under way

    def grains(self, at, size):
        """Of accesses of `size` bytes at `at`: their grains, and how many each has."""
        each = size // self.grain
        if each == 1:
            return at // self.grain, 1
        return ((at // self.grain)[:, None] + np.arange(each)).reshape(-1), each

    def ordered(self, places, who, ages, lanes, me, together, shared_by=None):
        """Whether the lanes at hand come after those that were there before, by a barrier or as the same lane."""
        before, threads = who[places], lanes.threads
        number = me + lanes.base
        same_block = (before // threads) == (number // threads)
        after_block = same_block & (ages[0][places] < lanes.block_age[me])
        after_warp = ((before // 32) == (number // 32)) & (ages[1][places] < lanes.warp_age[me])
        same_lane = (before == number) & (not together)
        if shared_by is None:
            fine = after_block | after_warp | same_lane
        else:
            many = shared_by[places]
            fine = (after_block & (many < LAUNCH)) | (after_warp & (many < BLOCK)) | (same_lane & (many == ONE))
        return fine | (before < 0)

    def check(self, places, me, lanes, writes, together=False):
        if self.coming[places].any():
            raise Fault("access while an asynchronous copy to there is under way")
        fine = self.ordered(places, self.writer, self.written, lanes, me, together)
        if not fine.all():
            self.report("write after write" if writes else "read after write", places, fine, me, lanes, self.writer)
        if writes:
            fine = self.ordered(places, self.reader, self.read, lanes, me, together, self.readers)
            if not fine.all():
                self.report("write after read", places, fine, me, lanes, self.reader)

    def report(self, what, places, fine, me, lanes, who):
        i = np.nonzero(~fine)[0][0]
        number, other = int(me[i] + lanes.base), int(who[places[i]])
        raise Fault(
            f"race, {what}: byte {int(places[i]) * self.grain}, block {number // lanes.threads} thread "
            f"{number % lanes.threads} and before it block {other // lanes.threads} thread {other % lanes.threads}"
        )

    def note_write(self, places, me, lanes):
        number = me + lanes.base
        self.writer[places] = number
        if (self.writer[places] != number).any():
            raise Fault("race: lanes write one place at once")
        self.written[0][places], self.written[1][places] = lanes.block_age[me], lanes.warp_age[me]
        self.reader[places] = -1

    def note_read(self, places, me, lanes, together=False):
        number, threads = me + lanes.base, lanes.threads
        before, many = self.reader[places], self.readers[places]
        now = np.full(places.size, WARP if together else ONE, np.int8)
        known = before >= 0
        if known.any():
            same_block = before // threads == number // threads
            same_age = same_block & (self.read[0][places] == lanes.block_age[me])
            same_warp = before // 32 == number // 32
            same_ages = same_age & same_warp & (self.read[1][places] == lanes.warp_age[me])
            now[same_ages & ((before != number) | (many == WARP))] = WARP
            now[same_age & (~same_warp | (many == BLOCK))] = BLOCK
            now[known & (~same_block | (many == LAUNCH))] = LAUNCH
        self.reader[places], self.readers[places] = number, ONE
        self.read[0][places], self.read[1][places] = lanes.block_age[me], lanes.warp_age[me]
        last = self.reader[places]  # of several lanes of this access, one
        others = (last != number, last // 32 != number // 32, last // threads != number // threads)
        for level, apart in zip((WARP, BLOCK, LAUNCH), others):
            chosen = places[apart | (now == level)]
            if chosen.size:
                self.readers[chosen] = level


class SharedMemory:
    """Of every block that runs at once, `size` bytes."""

    def __init__(self, blocks, size, grain):
        self.size, self.stride = size, -(-size // 128) * 128 or 128
        self.data = np.full(blocks * self.stride, 0xFF, np.uint8)
        self.races = Races(self.data.size, grain)

    def locate(self, address, block, size):
        at = address.astype(np.int64)
        check_aligned(at, size)
        if (at < 0).any() or (at + size > self.size).any():
            raise Fault(f"shared memory out of bounds: bytes {int(at.max())} to {int(at.max()) + size} of {self.size}")
        return at + block * self.stride

    def check_set(self, places):
        if (self.races.writer[places] < 0).any():
            raise Fault("reads shared memory that nobody has written")


class LocalMemory:
    """Of every lane `size` bytes, which no other lane can reach."""

    def __init__(self, lanes, size):
        self.size, self.stride = size, -(-size // 16) * 16 or 16
        self.data, self.set = np.full(lanes * self.stride, 0xFF, np.uint8), np.zeros(lanes * self.stride, bool)

    def locate(self, address, lane, size, writes):
        at = address.astype(np.int64)
        check_aligned(at, size)
        if (at < 0).any() or (at + size > self.size).any():
            raise Fault(f"local memory out of bounds: bytes {int(at.max())} to {int(at.max()) + size} of {self.size}")
        at = at + lane * self.stride
        places = at[:, None] + np.arange(size)
        if writes:
            self.set[places] = True
        elif not self.set[places].all():
            raise Fault("reads local memory that nobody has written")
        return at


def check_aligned(address, size):
    if (address % size).any():
        raise Fault(f"misaligned: {size} bytes at {hex(int(address[address % size != 0][0]))}")


class GlobalMemory:
    """A heap during one launch."""

    def __init__(self, heap, grain):
        self.heap, self.races = heap, Races(heap.data.size, grain)
        self.allowed = np.bitwise_and.reduce(heap.allowed.reshape(-1, grain), axis=1)

    def locate(self, address, size, writes):
        check_aligned(address, size)
        at = address.astype(np.int64) - GLOBAL
        outside = (at < 0) | (at + size > self.heap.data.size)
        if outside.any():
            raise Fault(f"global memory out of bounds: {size} bytes at {hex(int(address[outside][0]))}")
        places, each = self.races.grains(at, size)
        allowed = self.allowed[places]
        refused = (allowed & (WRITE if writes else READ)) == 0
        if refused.any():
            what = "writes what is only read" if writes and allowed[refused][0] else "global memory out of bounds"
            raise Fault(f"{what}: byte {hex(int(places[refused][0]) * self.races.grain)}, {size} bytes each")
        if not writes and not (allowed & SET).all():
            raise Fault("reads global memory that nobody has written")
        return at, places, each

    def finish(self):
        """The heap learns what was written."""
        self.heap.allowed.reshape(-1, self.races.grain)[:] |= (self.allowed & SET)[:, None]
