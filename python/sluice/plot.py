"""Figures of runs from their metrics.jsonl (needs matplotlib).

    {prog} OUT.pdf|OUT.png|OUT.svg RUN... [options]

    --panels eval.loss probe.sink_attention   what to draw, as KIND.FIELD; a second curve after a comma, dashed. analysis.*
                                              are those of the full probe (sluice analyze --all-checkpoints --save)
    --head L0H3 | L2 | mean | max             which head or layer; else the mean over all (default), or the largest
    --columns 2   --width 6.8                 panels a row; inches of the whole figure (6.8: a page, 3.3: a column)
    --separate                                one curve a run: else runs that differ only by seed are one curve, their
                                              mean, in a band of one standard deviation
    --from STEP                               leave out what is before
    --smooth N                                training losses: the mean over N logged ones

Without --panels: one panel for each known quantity that the runs have. Where a quantity has a value at position 0 and
elsewhere, the first is solid and the second dashed. Runs of one name are told apart by their folders. A cross is where a
curve stops being finite.
"""
import json
import math
import os
import re

from .command import complain, parser, program_name, run_command
from .runs import RunError, labels, open_runs

NAME = program_name("sluice-plot")
ENDINGS = (".pdf", ".png", ".svg")


def load_pyplot():
    try:
        import matplotlib
    except ImportError as error:
        raise RunError(f"{NAME} needs matplotlib: apt-get install python3-matplotlib, or pip install matplotlib") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


# (kind, [fields, the second dashed], title, logarithmic)
KNOWN = [
    ("risk", ["backcopy"], "backcopy risk (nats)", True),
    ("risk", ["bigram"], "bigram risk (nats)", False),
    ("train", ["loss"], "training loss (nats)", False),
    ("eval", ["loss"], "held-out loss (nats)", False),
    ("eval", ["bits_per_byte"], "held-out bits per byte", False),
    ("probe", ["sink_attention"], "attention on position 0", False),
    ("probe", ["sink_logit_gap_queries"], "sink logit gap, over the queries", False),
    ("probe", ["value_norm_sink", "value_norm_rest"], "value norm: position 0, elsewhere (dashed)", False),
    ("probe", ["residual_norm_sink", "residual_norm_rest"], "block output norm: position 0, elsewhere (dashed)", False),
    ("gate", ["mean", "mean_sink"], "gate opening: mean, at position 0 (dashed)", False),
    ("analysis", ["sink_rate"], "sink rate of position 0", False),
    ("analysis", ["first_token_share"], "first-token share", False),
    ("analysis", ["value_norm_ratio"], "value norm, position 0 over the others", False),
    ("analysis", ["kurtosis"], "kurtosis of attention's output", False),
    ("analysis", ["massive_activation"], "largest activation of the residual stream", False),
    ("analysis", ["value_gradient_ratio"], "gradient of values, position 0 over the others", False),
    ("analysis", ["content_gradient_ratio", "gate_gradient_ratio"],
     "the same by its ways: content, gate (dashed)", False),
]
STYLES = ["-", "--", ":", "-."]

# Okabe and Ito's colours, which people with colour blindness can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]

PAPER = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "lines.linewidth": 1.1, "axes.linewidth": 0.6, "axes.grid": True, "grid.alpha": 0.25,
    "grid.linewidth": 0.5, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "pdf.fonttype": 42, "svg.fonttype": "none", "savefig.dpi": 200,
}


def common_label(names):
    """bb-vga-s1 and bb-vga-s2 make bb-vga, as in `sluice compare`; empty where they have nothing in common."""
    if len(set(names)) == 1:
        return names[0]
    common = os.path.commonprefix(names)
    without_digits = common.rstrip("0123456789")  # that the seeds happen to share: s12, s13
    if re.search("(seed|[-_]s)$", without_digits):
        common = without_digits
    return re.sub(r"(seed|[-_]s)$", "", common.rstrip("-_./ ")).rstrip("-_./ ")


class Group:
    """Runs that are one curve."""

    def __init__(self, runs, own_label):
        self.runs, self.own_label = runs, own_label
        self.label = common_label([run.name for run in runs]) or own_label if len(runs) > 1 else own_label

    def curve(self, kind, field, place, smooth):
        """steps, means, deviations and how many runs, at the steps that all runs have that have any."""
        series = [smoothed(run_series(run, kind, field, place), smooth if kind == "train" else 1) for run in self.runs]
        series = [points for points in series if points]
        steps = sorted(set.intersection(*(set(points) for points in series))) if series else []
        means, deviations = [], []
        for step in steps:
            values = [points[step] for points in series]
            mean = sum(value / len(values) for value in values)
            means.append(mean)
            deviations.append(math.sqrt(sum((v - mean) * (v - mean) for v in values) / max(1, len(values) - 1)))
        return steps, means, deviations, len(series)


def make_groups(runs, separate):
    own = dict(zip(map(id, runs), labels(runs)))
    groups = {}
    for number, run in enumerate(runs):
        groups.setdefault(number if separate else run.without_seed() or number, []).append(run)
    parts = []
    for members in groups.values():
        seeds = [json.dumps(run.config.get("seed")) for run in members]
        # Of one seed there is nothing to average: such runs stay apart.
        parts += [members] if len(set(seeds)) == len(seeds) else [[run] for run in members]
    out = [Group(members, own[id(members[0])]) for members in parts]
    # Two settings may still share a name: the first run's label is its own.
    shared = [group.label for group in out if [other.label for other in out].count(group.label) > 1]
    for group in out:
        if group.label in shared:
            group.label = group.own_label
    return out


def run_series(run, kind, field, place):
    """The values by step, of one head or layer, or reduced over all that there are."""
    values = {}
    for step, of_kind, layer, head, name, value in run.values():
        if of_kind != kind or name != field:
            continue
        here = "" if layer is None else f"L{layer}" if head is None else f"L{layer}H{head}"
        if here and place.startswith("L") and here != place and not here.startswith(place + "H"):
            continue
        values.setdefault(step, []).append(value)
    return {step: max(some) if place == "max" else sum(some) / len(some) for step, some in values.items()}


def smoothed(points, count):
    steps = sorted(points)
    if count <= 1:
        return points
    out = {}
    for i, step in enumerate(steps):
        window = [points[s] for s in steps[max(0, i - count + 1):i + 1]]
        out[step] = sum(window) / len(window)
    return out


def described_panels(groups):
    """Of the figures that the runs' analyses describe and no panel above draws."""
    named = {field for kind, fields, _, _ in KNOWN if kind == "analysis" for field in fields}
    found = {}
    for run in (run for group in groups for run in group.runs):
        for figure in run.figures:
            title = ", ".join(part for part in (figure["group"], figure["title"]) if part)
            found.setdefault(figure["key"], ("analysis", [figure["key"]], title, False))
    return [panel for key, panel in found.items() if key not in named]


def wanted_panels(args, groups):
    have = {(kind, field) for group in groups for run in group.runs for _, kind, _, _, field, _ in run.values()}
    if args.panels:
        panels = []
        for text in args.panels:
            kinds = [part.split(".", 1) for part in text.split(",")]
            if any(len(part) != 2 for part in kinds) or len({part[0] for part in kinds}) != 1:
                raise RunError(f"--panels {text}: a panel is KIND.FIELD or KIND.FIELD,KIND.FIELD of one kind")
            kind, fields = kinds[0][0], [part[1] for part in kinds]
            unknown = [field for field in fields if (kind, field) not in have]
            if unknown:
                raise RunError(f"--panels {text}: none of the runs has {kind}.{unknown[0]}")
            known = [panel for panel in KNOWN if panel[:2] == (kind, fields)]
            panels.append(known[0] if known else (kind, fields, text.replace(",", ", "), False))
        return panels
    has_risk = any(kind == "risk" for kind, _ in have)
    panels = KNOWN + described_panels(groups)
    return [panel for panel in panels if (panel[0], panel[1][0]) in have and not (has_risk and panel[0] == "train")]


def draw(axes, panel, groups, args):
    kind, fields, title, logarithmic = panel
    later = []  # what a loss is after its first fall, which would flatten all that follows
    drawn = 0
    for colour, group in enumerate(groups):
        for style, field in zip(STYLES, fields):
            steps, means, deviations, count = group.curve(kind, field, args.head, args.smooth)
            points = [p for p in zip(steps, means, deviations) if p[0] >= args.first]
            if not points:
                if count and not steps:
                    complain(f"note: the runs of {group.label} have no step of {kind}.{field} in common; --separate draws each")
                continue
            drawn += 1
            steps, means, deviations = zip(*points)
            look = {"color": COLOURS[colour % len(COLOURS)]}
            label = f"{group.label} ({count} seeds)" if count > 1 else group.label
            axes.plot(steps, means, style, marker="." if len(steps) == 1 else None, label=label if style == "-" else None, **look)
            mark_ends(axes, steps, means, look)
            if count > 1:
                low, high = ([m + sign * d for m, d in zip(means, deviations)] for sign in (-1, 1))
                axes.fill_between(steps, low, high, alpha=0.2, linewidth=0, **look)
            later += [m for s, m in zip(steps, means) if s >= 0.1 * steps[-1] and math.isfinite(m)]
    if drawn == 0:
        raise RunError(f"there is nothing to draw of {kind}.{','.join(fields)} with --head {args.head} --from {args.first}")
    axes.set_title(title)
    if logarithmic:
        axes.set_yscale("log")
    elif kind in ("risk", "train", "eval") and later and max(later) > min(later):
        margin = 0.05 * (max(later) - min(later))
        axes.set_ylim(min(later) - margin, max(later) + margin)


def mark_ends(axes, steps, means, look):
    """A cross at each last value before one that is not finite; at the bottom where there was none before."""
    for at, value in enumerate(means):
        if math.isfinite(value) or (at > 0 and not math.isfinite(means[at - 1])):
            continue
        if at > 0:
            axes.plot([steps[at - 1]], [means[at - 1]], "x", markersize=5, **look)
        else:
            axes.plot([steps[0]], [0.02], "x", markersize=5, transform=axes.get_xaxis_transform(), **look)


def parse_arguments():
    arguments = parser(NAME, __doc__.replace("{prog}", NAME))
    arguments.add_argument("out", metavar="OUT")
    arguments.add_argument("runs", nargs="+", metavar="RUN")
    arguments.add_argument("--panels", nargs="+", default=[])
    arguments.add_argument("--head", default="mean")
    arguments.add_argument("--columns", type=int, default=2)
    arguments.add_argument("--width", type=float, default=6.8)
    arguments.add_argument("--separate", action="store_true")
    arguments.add_argument("--from", dest="first", type=int, default=0)
    arguments.add_argument("--smooth", type=int, default=1)
    args = arguments.parse_intermixed_args()
    if not re.fullmatch(r"mean|max|L\d+(H\d+)?", args.head):
        arguments.error(f"--head is mean, max, a layer (L2) or a head (L0H3), not {args.head}")
    if not args.out.lower().endswith(ENDINGS):
        arguments.error(f"{args.out}: a figure's name ends in {', '.join(ENDINGS)}")
    if args.columns < 1 or args.smooth < 1 or not 0.5 <= args.width <= 100:
        arguments.error("--columns and --smooth are at least 1, --width is between 0.5 and 100 inches")
    return args


def main():
    args = parse_arguments()
    plt = load_pyplot()
    groups = make_groups(open_runs(args.runs), args.separate)
    panels = wanted_panels(args, groups)
    if not panels:
        raise RunError("the runs have none of the known quantities; name some with --panels")
    plt.rcParams.update(PAPER)
    columns = min(args.columns, len(panels))
    rows = (len(panels) + columns - 1) // columns
    size = (args.width, rows * args.width / columns * 0.62)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharex=True, squeeze=False, layout="constrained")
    for spot, panel in zip(axes.flat, panels):
        draw(spot, panel, groups, args)
    for spot in axes.flat[len(panels):]:
        spot.set_visible(False)
    for column in range(columns):
        last = max(row for row in range(rows) if row * columns + column < len(panels))
        axes[last][column].set_xlabel("step")
        axes[last][column].tick_params(labelbottom=True)
    axes[0][0].legend()
    figure.savefig(args.out)


def command():
    run_command(main)


if __name__ == "__main__":
    command()
