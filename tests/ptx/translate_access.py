"""The translation of instructions that touch memory or other lanes (translate.py): calls of access.py."""

from ptx_text import SIZES


class Unknown(Exception):
    """An instruction that the interpreter has not learned."""


def view_kind(kind):
    return {"f": "f", "s": "s"}.get(kind[0], "u")


class AccessWriter:
    """A part of Writer, which has `read`, `view`, `predicate`, `emit` and `put`, and which knows the mask and the lanes."""

    def address(self, operand):
        base = operand.value
        if base.kind == "symbol":
            return f"u8(address_of({base.value!r}) + {operand.offset})"
        kind = f"u{8 * self.kernel.registers[base.value]}"
        found = self.read(base, kind)
        if kind == "u32":
            found += ".astype(u8)"
        return f"{found} + u8({operand.offset & (2**64 - 1)})" if operand.offset else found

    def parts(self, operand):
        return operand.value if operand.kind == "list" else [operand]

    def do_ld(self, one):
        kind, to = one.op[-1], self.parts(one.args[0])
        space = next((part for part in one.op if part in ("param", "global", "shared", "local")), "generic")
        source = one.args[1]
        if space == "param" and source.value.kind == "symbol":
            for i, register in enumerate(to):
                self.put(
                    register,
                    kind,
                    f"parameter({source.value.value!r}, {source.offset + i * SIZES[kind]}, {view_kind(kind)}{SIZES[kind]})",
                )
            return
        self.emit(f"V = load({self.at}, {space!r}, {self.lanes}, {self.address(source)}, {SIZES[kind]}, {len(to)})")
        for i, register in enumerate(to):
            if register.kind == "sink":
                continue
            width = self.kernel.registers[register.value]
            view = self.view(register.value, f"{'s' if kind[0] == 's' else 'u'}{8 * width}")
            self.emit(f"{view}[{self.lanes}] = V[{i}]{f'.view(s{SIZES[kind]})' if kind[0] == 's' else ''}")

    def do_st(self, one):
        kind, values = one.op[-1], self.parts(one.args[1])
        space = next((part for part in one.op if part in ("global", "shared", "local")), "generic")
        unsigned = f"u{8 * SIZES[kind]}"
        read = ", ".join(f"lanes_of({self.read(value, unsigned)}, {self.lanes})" for value in values)
        self.emit(f"store({self.at}, {space!r}, {self.lanes}, {self.address(one.args[0])}, {SIZES[kind]}, [{read}])")

    def do_cp(self, one):
        if one.op[2] == "commit_group":
            self.emit(f"copies_commit({self.lanes})")
        elif one.op[2] in ("wait_group", "wait_all"):
            self.emit(f"copies_wait({self.at}, {self.lanes}, {one.args[0].value if one.args else 0})")
        else:
            count = self.read(one.args[3], "u32") if len(one.args) > 3 else "u4(16)"
            self.emit(
                f"copies_start({self.at}, {self.lanes}, {self.address(one.args[0])}, {self.address(one.args[1])}, {count})"
            )

    # ---- of whole warps: the scheduler has seen to it that all lanes of each are here

    def do_bar(self, one):
        self.emit(f"warp_barrier({self.lanes})")

    def do_shfl(self, one):
        to, ok = one.args[0].value if one.args[0].kind == "pair" else (one.args[0], None)
        read = ", ".join(f"lanes_of({self.read(source, 'u32')}, I)" for source in one.args[1:])
        self.emit(f"V, P = shuffle({self.at}, {one.op[2]!r}, {read})")
        self.emit(f"{self.view(to.value, 'u32')}[I] = V")
        if ok:
            self.emit(f"{self.predicate(ok)}[I] = P")

    def do_ldmatrix(self, one):
        to = one.args[0].value
        self.emit(f"V = load_matrices({self.at}, I, lanes_of({self.address(one.args[1])}, I), {len(to)}, {'trans' in one.op})")
        for i, register in enumerate(to):
            self.emit(f"{self.view(register.value, 'u32')}[I] = V[{i}]")

    def do_mma(self, one):
        groups = [
            f"[{', '.join(f'lanes_of({self.read(register, kind)}, I)' for register in operand.value)}]"
            for operand, kind in zip(one.args[1:4], ("u32", "u32", "f32"))
        ]
        self.emit(f"V = multiply_matrices({one.op[3]!r}, {one.op[-2]!r}, {', '.join(groups)})")
        for i, register in enumerate(one.args[0].value):
            self.emit(f"{self.view(register.value, 'f32')}[I] = V[{i}]")
