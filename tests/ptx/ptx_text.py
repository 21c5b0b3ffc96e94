"""PTX as text, taken apart: kernels, their parameters, registers, arrays, instructions, basic blocks, source lines."""

import collections
import pathlib
import re
import subprocess

SIZES = {
    "b8": 1,
    "u8": 1,
    "s8": 1,
    "b16": 2,
    "u16": 2,
    "s16": 2,
    "bf16": 2,
    "b32": 4,
    "u32": 4,
    "s32": 4,
    "f32": 4,
    "b64": 8,
    "u64": 8,
    "s64": 8,
    "f64": 8,
    "pred": 0,
}

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src"

# guard: (predicate's register, whether it is negated) or None; op: the name's parts; args: operands; line: of the source.
Instruction = collections.namedtuple("Instruction", "guard op args text line")
# kind: register, special, value (bits), symbol, list, memory, pair or sink; offset: of a memory operand.
Operand = collections.namedtuple("Operand", "kind value offset", defaults=(None, 0))
# A run of instructions that is entered at its start alone. `end`: how it ends, by `last`, the instruction that ends it.
Block = collections.namedtuple("Block", "first instructions end last")
Parameter = collections.namedtuple("Parameter", "name align size")
# Where an instruction comes from: file, line, and the chain of lines into which it was inlined.
Line = collections.namedtuple("Line", "file line outer")

ENDS = {"bra": "branch", "ret": "exit", "exit": "exit", "bar": "barrier", "barrier": "barrier"}


def split(text):
    """Parts between commas that no bracket encloses."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "[{(") - (c in "]})")
        if c == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return parts + [part.strip()] if part.strip() else parts


def operand(text):
    text = text.strip()
    if text.startswith("{"):
        return Operand("list", [operand(part) for part in split(text[1 : text.rindex("}")])])
    if text.startswith("["):
        inner = text[1 : text.rindex("]")].strip()
        match = re.fullmatch(r"([%\w$.]+)\s*([+-])\s*(-?\d+)", inner)
        if not match:
            return Operand("memory", operand(inner))
        return Operand("memory", operand(match[1]), int(match[3]) * (1 if match[2] == "+" else -1))
    if text.startswith("%") and "|" in text:
        return Operand("pair", [operand(part) for part in text.split("|")])
    if re.match(r"%(n?tid|n?ctaid|laneid|warpid)\b", text):
        return Operand("special", text[1:])
    if text.startswith("%"):
        return Operand("register", text[1:])
    if re.fullmatch(r"0[fFdD][0-9a-fA-F]+", text):
        return Operand("value", int(text[2:], 16))
    if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", text):
        return Operand("value", int(text.rstrip("U"), 0))
    return Operand("sink") if text == "_" else Operand("symbol", text)


class Module:
    """The kernels of a file of PTX, by their demangled names."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.files = {int(n): name for n, name in re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', self.text, re.M)}
        starts = {m[1]: m.start() for m in re.finditer(r"^(?:\.visible )?\.entry\s+([\w$]+)\s*\(", self.text, re.M)}
        head = self.text[: min(starts.values(), default=0)]
        self.arrays = dict(array(match) for match in re.finditer(ARRAY, head))
        names = subprocess.run(["c++filt"], input="\n".join(starts), capture_output=True, text=True, check=True).stdout
        self.starts = {plain(name): start for name, start in zip(names.split("\n"), starts.values())}
        # Kernels of headers: one and the same in all files that have them.
        self.shared = {plain(name) for name, mangled in zip(names.split("\n"), starts) if "_GLOBAL__N_" not in mangled}
        self.kernels = {}

    def kernel(self, name):
        if name not in self.kernels:
            self.kernels[name] = self.parse(name, self.starts[name])
        return self.kernels[name]

    def parse(self, name, start):
        opened = self.text.index("(", start)
        closed = self.text.index(")", opened)
        body = self.text.index("{", closed)
        text = re.sub(r"//[^\n]*", "", self.text[body + 1 : self.text.index("\n}", body)])
        parameters = []
        for part in split(self.text[opened + 1 : closed]):
            m = re.match(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", part)
            parameters.append(Parameter(m[3], int(m[1] or SIZES[m[2]]), SIZES[m[2]] * int(m[4] or 1)))
        most = re.search(r"\.maxntid\s+(\d+)", self.text[closed:body])
        return Kernel(self, name, parameters, text, int(most[1]) if most else 1024)


ARRAY = r"\.(shared|local)\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)\[(\d*)\]"


def array(match):
    """(name, (space, alignment, bytes)); 0 bytes: as many as the launch says."""
    return match[4], (match[1], int(match[2]), SIZES[match[3]] * int(match[5] or 0))


def plain(name):
    """A kernel's demangled name without its result, its parameters and what every name has in front."""
    depth = 0
    for end, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0 and not name.startswith("(anonymous", end):
            name = name[:end]
            break
    name = name.replace("(anonymous namespace)::", "").replace("sluice::cuda::", "").replace("sluice::", "")
    return re.sub(r"^void ", "", name).replace("> >", ">>")


class Kernel:
    def __init__(self, module, name, parameters, body, most_threads):
        self.module, self.name, self.parameters, self.most_threads = module, name, parameters, most_threads
        self.registers = {}  # name: bytes; 0: a predicate
        self.arrays = {array: facts for array, facts in module.arrays.items() if array in body}
        self.instructions, labels = [], {}
        self.read(body, labels)
        self.blocks, self.block_at = self.cut(labels)

    def read(self, body, labels):
        line = None
        for statement in statements(body):
            while match := re.match(r"([$\w]+):\s*", statement):
                labels[match[1]] = len(self.instructions)
                statement = statement[match.end() :]
            if re.match(r"\.loc\s", statement):
                line = self.line_of(statement, line)
            elif statement.startswith(".reg"):
                self.declare(*re.match(r"\.reg\s*\.(\w+)\s+(.*)", statement).groups())
            elif match := re.match(ARRAY, statement):
                self.arrays.update([array(match)])
            elif statement and not statement.startswith("."):
                self.instructions.append(instruction(statement, line))

    def declare(self, kind, names):
        for name in split(names):
            many = re.match(r"%?([\w$]+)<(\d+)>", name)
            for one in [many[1] + str(i) for i in range(int(many[2]))] if many else [name.lstrip("%")]:
                self.registers[one] = SIZES[kind]

    def line_of(self, statement, last):
        place = re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+", statement)
        file = self.module.files.get(int(place[1]), "?").split("/src/")[-1]
        outer = re.search(r"inlined_at\s+(\d+)\s+(\d+)", statement)
        inlined = (self.module.files.get(int(outer[1]), "?").split("/src/")[-1], int(outer[2])) if outer else None
        return Line(file, int(place[2]), inlined) if int(place[2]) > 0 else last

    def cut(self, labels):
        """Basic blocks, and of each label's instruction the block's number."""
        leaders = set(labels.values()) | {0}
        for at, one in enumerate(self.instructions):
            if ends(one):
                leaders.add(at + 1)
        leaders = sorted(at for at in leaders if at < len(self.instructions))
        number = {at: i for i, at in enumerate(leaders)}
        number[len(self.instructions)] = len(leaders)  # beyond the end
        blocks = []
        for first, end in zip(leaders, leaders[1:] + [len(self.instructions)]):
            some = list(range(first, end))
            kind = ends(self.instructions[end - 1])
            blocks.append(Block(first, some[:-1] if kind else some, kind, end - 1 if kind else None))
        return blocks, {label: number[at] for label, at in labels.items()}

    def barriers(self):
        """The instructions that order memory: of the block, of the warp, and waits for asynchronous copies."""
        return [
            at
            for at, one in enumerate(self.instructions)
            if one.op[0] in ("bar", "barrier") or one.op[:3] in (["cp", "async", "wait_group"], ["cp", "async", "wait_all"])
        ]

    def where(self, at):
        """The source line of an instruction."""
        line = self.instructions[at].line
        return f"{line.file}:{line.line}" if line else self.instructions[at].text

    def place(self, at):
        """An instruction by the function and the words of its source line, which stay when lines are added above it, and how many
        such lines the function has up to there."""
        line = self.instructions[at].line
        if not line:
            return self.instructions[at].text
        file, number = line.file, line.line
        if line.outer and (file.endswith("/ptx.h") or not (SOURCE / file).is_relative_to(SOURCE)):
            file, number = line.outer  # who calls one instruction under another name
        with open(SOURCE / file, encoding="utf-8") as text:
            lines = text.read().split("\n")
        head = next((i for i in range(number - 1, -1, -1) if re.search(r"__(device|global)__", lines[i])), 0)
        words = lines[number - 1].strip()
        nth = sum(line.strip() == words for line in lines[head:number])
        bounds = r"__launch_bounds__\([^()]*(\([^()]*\)[^()]*)*\)"
        name = re.search(r"(\w+)\(", re.sub(bounds, "", " ".join(lines[head : head + 3])))
        return f"{file.split('/')[-1]}, {name[1] if name else '?'}: {words} [{nth}]"


def ends(one):
    if one.op[:2] == ["bar", "warp"]:
        return None
    return ENDS.get(one.op[0])


def statements(body):
    """Without scopes' braces; a .loc ends with its line."""
    part, depth = "", 0
    for line in body.split("\n"):
        if line.lstrip().startswith(".loc"):
            yield line.strip()
            continue
        label = re.match(r"^([$\w]+):\s*$", line.strip())
        if label and not part.strip():
            part = label[0].strip() + " "
            continue
        for c in line + " ":
            if c in "{}" and not part.strip():
                continue
            depth += (c == "{") - (c == "}")
            if c == ";":
                yield " ".join(part.split())
                part = ""
            else:
                part += c
    if part.strip():
        yield " ".join(part.split())


def instruction(text, line):
    guard = re.match(r"@(!?)%([\w$]+)\s+", text)
    rest = text[guard.end() :] if guard else text
    name = re.match(r"[\w.:]+", rest)[0]
    args = [operand(part) for part in split(rest[len(name) :])]
    return Instruction((guard[2], guard[1] == "!") if guard else None, name.replace("::", "_").split("."), args, text, line)
