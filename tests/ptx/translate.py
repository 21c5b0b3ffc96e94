"""From a basic block of PTX to a Python function over numpy arrays: one element a lane, one array a register.

A block's function is given a mask (True or an array of bool): who runs. An instruction becomes one or a few calls that write
where the mask says. Registers are arrays of unsigned words; r.NAME.s and r.NAME.f below are names of views of the same memory.
"""

import struct

from ptx_text import SIZES
from translate_access import AccessWriter, Unknown, view_kind

COMPARE = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "lo": "less",
    "ls": "less_equal",
    "hi": "greater",
    "hs": "greater_equal",
}
# Of floats, what is true for NaNs too is the opposite of what is false for them.
OPPOSITE = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}
PLAIN = {
    "add": "add",
    "sub": "subtract",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "not": "invert",
    "neg": "negative",
    "abs": "absolute",
}
FLOATS = {"div": "divide", "min": "fmin", "max": "fmax", "sqrt": "sqrt", "rcp": "reciprocal", "mul": "multiply", **PLAIN}
INTEGERS = {"min": "minimum", "max": "maximum", **PLAIN}
COLLECTIVE = ("shfl", "mma", "ldmatrix", "vote", "redux", "match", "activemask")


class Writer(AccessWriter):
    """The lines of one block, and the constants and registers that they name."""

    def __init__(self, kernel, skip):
        self.kernel, self.skip = kernel, skip
        self.lines, self.constants, self.views = [], {}, set()
        self.at, self.mask, self.lanes = 0, "W", "I"

    # ---- operands

    def read(self, operand, kind):
        """An expression: what lanes read as this kind, an array or a scalar."""
        size = SIZES[kind]
        if operand.kind == "value":
            return self.constant(operand.value, kind)
        if operand.kind == "special":
            return (
                f"specials[{operand.value!r}]" if size == 4 else f"specials[{operand.value!r}].astype({view_kind(kind)}{size})"
            )
        if operand.kind == "symbol":
            return f"u{size}(address_of({operand.value!r}))"
        if operand.kind != "register":
            raise Unknown(f"operand {operand}")
        width = self.kernel.registers[operand.value]
        if width == size:
            return self.view(operand.value, kind)
        words = self.view(operand.value, f"u{8 * width}")
        narrow = f"{words}.astype(u{size})"
        return narrow if view_kind(kind) == "u" else f"{narrow}.view({view_kind(kind)}{size})"

    def view(self, register, kind):
        """The name of a register's array seen as this kind."""
        width = self.kernel.registers[register]
        name = f"{register}_{view_kind(kind) if width else 'p'}"
        self.views.add((name, register, view_kind(kind), width))
        return name

    def constant(self, value, kind):
        size = SIZES[kind]
        bits = value & ((1 << (8 * size)) - 1)
        name = f"c_{kind}_{bits:x}"
        code = {"f4": "f", "f8": "d", "s2": "h", "s4": "i", "s8": "q"}.get(view_kind(kind) + str(size))
        number = struct.unpack("<" + code, bits.to_bytes(size, "little"))[0] if code else bits
        self.constants[name] = (view_kind(kind), size, number)
        return name

    def predicate(self, operand):
        return self.view(operand.value, "pred")

    # ---- lines

    def emit(self, line):
        self.lines.append("  " + line)

    def call(self, function, operand, kind, *values):
        """operand = function(values), a ufunc: straight into the register where sizes agree."""
        if operand.kind == "register" and self.kernel.registers[operand.value] == SIZES[kind]:
            self.emit(f"{function}({', '.join(values)}, out={self.view(operand.value, kind)}, where={self.mask})")
        else:
            self.put(operand, kind, f"{function}({', '.join(values)})")

    def put(self, operand, kind, expression):
        """operand = expression of this kind; wider registers are filled as the kind's sign says."""
        if operand.kind == "sink":
            return
        width = self.kernel.registers[operand.value]
        kind_of_view = "s" if kind[0] == "s" else "f" if kind[0] == "f" and width == SIZES[kind] else "u"
        self.emit(
            f"copyto({self.view(operand.value, kind_of_view + str(8 * width))}, {expression}, where={self.mask}, casting='unsafe')"
        )

    # ---- instructions

    def write(self, at):
        one = self.kernel.instructions[at]
        self.at = at
        name = one.op[0]
        method = getattr(self, "do_" + name, None)
        if at in self.skip:
            return
        if method is None:
            raise Unknown(one.text)
        if one.guard is None:
            method(one)
            return
        if name in COLLECTIVE or one.op[:2] == ["bar", "warp"]:
            raise Unknown("a collective instruction under a condition: " + one.text)
        guard = self.view(one.guard[0], "pred")
        self.emit(f"G = {'~' if one.guard[1] else ''}{guard} & W")
        self.emit("if G.any():")
        self.emit(" J = G.nonzero()[0]")
        self.mask, self.lanes = "G", "J"
        start = len(self.lines)
        method(one)
        self.lines[start:] = [" " + line for line in self.lines[start:]]
        self.mask, self.lanes = "W", "I"

    def do_mov(self, one):
        kind, (to, source) = one.op[-1], one.args
        if to.kind == "list":
            size = SIZES[kind] // len(to.value)
            for i, part in enumerate(to.value):
                self.put(part, f"u{8 * size}", f"({self.read(source, kind)} >> u{SIZES[kind]}({8 * size * i})).astype(u{size})")
        elif source.kind == "list":
            size = SIZES[kind] // len(source.value)
            parts = [
                f"({self.read(part, f'u{8 * size}')}.astype(u{SIZES[kind]}) << u{SIZES[kind]}({8 * size * i}))"
                for i, part in enumerate(source.value)
            ]
            self.put(to, kind, " | ".join(parts))
        elif kind == "pred":
            value = self.predicate(source) if source.kind == "register" else str(bool(source.value))
            self.emit(f"copyto({self.predicate(to)}, {value}, where={self.mask})")
        else:
            self.put(to, kind, self.read(source, kind))

    def arithmetic(self, one):
        name, kind, to = one.op[0], one.op[-1], one.args[0]
        values = [self.read(source, kind) for source in one.args[1:]]
        if kind == "pred":
            values = [self.predicate(source) for source in one.args[1:]]
            self.emit(
                f"{PLAIN[name].replace('bitwise', 'logical') if name != 'not' else 'logical_not'}("
                f"{', '.join(values)}, out={self.predicate(to)}, where={self.mask})"
            )
        elif "approx" in one.op:
            raise Unknown(one.text)
        elif kind[0] == "f" and set(one.op[1:-1]) & {"rm", "rz", "rp", "ftz", "sat"}:
            raise Unknown(one.text)
        else:
            self.call((FLOATS if kind[0] == "f" else INTEGERS)[name], to, kind, *values)

    do_add = do_sub = do_and = do_or = do_xor = do_not = do_neg = do_abs = do_min = do_max = do_sqrt = arithmetic

    def do_rcp(self, one):
        if one.op[1] == "rn":
            self.call("reciprocal", one.args[0], one.op[-1], self.read(one.args[1], one.op[-1]))
        else:
            self.put(one.args[0], one.op[-1], f"rcp_approximate({self.read(one.args[1], one.op[-1])})")

    def do_ex2(self, one):
        self.put(one.args[0], "f32", f"ex2_approximate({self.read(one.args[1], 'f32')})")

    def do_fma(self, one):
        kind, values = one.op[-1], [self.read(source, one.op[-1]) for source in one.args[1:]]
        self.put(one.args[0], kind, f"fma_{one.op[1]}_{kind}({', '.join(values)})")

    def do_mul(self, one):
        kind, to = one.op[-1], one.args[0]
        x, y = (self.read(source, kind) for source in one.args[1:3])
        if kind[0] == "f":
            self.arithmetic(one)
        elif one.op[1] == "wide":
            wide = f"{view_kind(kind)}{2 * SIZES[kind]}"
            more = f" + {self.read(one.args[3], kind[0] + str(16 * SIZES[kind]))}" if one.op[0] == "mad" else ""
            self.put(to, kind[0] + str(16 * SIZES[kind]), f"multiply({x}, {y}, dtype={wide}){more}")
        elif one.op[1] == "hi" and SIZES[kind] == 4:
            self.put(to, kind, f"(multiply({x}, {y}, dtype={view_kind(kind)}8) >> {view_kind(kind)}8(32))")
        elif one.op[1] == "lo" and one.op[0] == "mad":
            self.put(to, kind, f"{x} * {y} + {self.read(one.args[3], kind)}")
        elif one.op[1] == "lo":
            self.call("multiply", to, kind, x, y)
        else:
            raise Unknown(one.text)

    do_mad = do_mul

    def do_div(self, one):
        if one.op[-1][0] == "f":
            self.arithmetic(one)
            return
        values = [self.read(source, one.op[-1]) for source in one.args[1:]]
        self.put(one.args[0], one.op[-1], f"{one.op[0]}_integers({self.at}, {self.mask}, {', '.join(values)})")

    do_rem = do_div

    def do_setp(self, one):
        kind, relation = one.op[-1], one.op[1]
        x, y = (self.read(source, kind) for source in one.args[1:3])
        to = self.predicate(one.args[0])
        if len(one.op) == 3 and kind[0] != "f":
            self.emit(f"{COMPARE[relation]}({x}, {y}, out={to}, where={self.mask})")
            return
        if relation in OPPOSITE:
            found = (
                f"~{COMPARE[OPPOSITE[relation]]}({x}, {y})" if relation != "equ" else f"~(less({x}, {y}) | greater({x}, {y}))"
            )
        elif relation == "ne" and kind[0] == "f":
            found = f"(less({x}, {y}) | greater({x}, {y}))"
        elif relation in COMPARE:
            found = f"{COMPARE[relation]}({x}, {y})"
        else:
            raise Unknown(one.text)
        if one.op[2] in ("and", "or", "xor"):
            found = f"logical_{one.op[2]}({found}, {self.predicate(one.args[3])})"
        self.emit(f"copyto({to}, {found}, where={self.mask})")

    def do_selp(self, one):
        kind = one.op[-1]
        x, y = (self.read(source, kind) for source in one.args[1:3])
        self.put(one.args[0], kind, f"where({self.predicate(one.args[3])}, {x}, {y})")

    def do_shl(self, one):
        kind = one.op[-1]
        self.put(
            one.args[0],
            kind,
            f"{one.op[0]}_{'s' if kind[0] == 's' else 'u'}({self.read(one.args[1], kind)}, {self.read(one.args[2], 'u32')})",
        )

    do_shr = do_shl

    def do_prmt(self, one):
        self.put(one.args[0], "b32", f"permuted({', '.join(self.read(source, 'u32') for source in one.args[1:])})")

    def do_bfi(self, one):
        if one.op[-1] != "b32":
            raise Unknown(one.text)
        self.put(one.args[0], "b32", f"inserted({', '.join(self.read(source, 'u32') for source in one.args[1:])})")

    def do_cvt(self, one):
        to, source, modes = one.op[-2], one.op[-1], one.op[1:-2]
        if to == "bf16x2":
            self.put(one.args[0], "b32", f"bf16_pair({self.read(one.args[1], 'f32')}, {self.read(one.args[2], 'f32')})")
        elif to == "tf32":
            self.put(one.args[0], "b32", f"tf32({self.read(one.args[1], 'u32')})")
        elif modes == ["sat"]:
            self.put(one.args[0], to, f"saturated({self.read(one.args[1], source)})")
        elif to[0] != "f" and source[0] == "f" and modes == ["rzi"]:
            self.put(one.args[0], to, f"truncated({self.read(one.args[1], source)}, {view_kind(to)}{SIZES[to]})")
        elif to[0] == "f" and modes in (["rn"], []):
            self.put(one.args[0], to, f"asarray({self.read(one.args[1], source)}).astype(f{SIZES[to]})")
        elif to[0] != "f" and source[0] != "f" and not modes:
            value = f"asarray({self.read(one.args[1], source)}).astype({view_kind(source)}{SIZES[to]})"
            self.put(one.args[0], to, f"{value}.view({view_kind(to)}{SIZES[to]})")
        else:
            raise Unknown(one.text)

    def do_cvta(self, one):
        window = {"shared": "SHARED", "local": "LOCAL"}.get(one.op[-2], "0")
        sign = "-" if "to" in one.op else "+"
        value = self.read(one.args[1], "u64")
        self.put(one.args[0], "u64", value if window == "0" else f"{value} {sign} u8({window})")
