"""A dot for each seed of each variant, panels side by side: what separates variants by more than seeds is seen at once."""
import sys

from sluice.plot import COLOURS, PAPER
from sluice.runs import RunError

from .tables import values_of, variants_of


def draw_picture(path, picture, results, order):
    try:
        from sluice.plot import load_pyplot

        pyplot = load_pyplot()
    except RunError as error:
        print(f"note: {path.name} is not drawn: {error}", file=sys.stderr)
        return
    variants = variants_of(picture, results, order)
    columns = [column for column in picture["columns"] if any(results[column["part"]].of(name) for name in variants)]
    if not columns:
        return
    with pyplot.rc_context(PAPER):
        figure, panels = pyplot.subplots(1, len(columns), sharey=True, squeeze=False,
                                         figsize=(picture.get("width", 9), 0.8 + 0.17 * len(variants)))
        for axes, column in zip(panels[0], columns):
            draw_panel(axes, column, variants, results)
        panels[0][0].set_yticks(range(len(variants)), variants)
        panels[0][0].set_ylim(len(variants) - 0.5, -0.5)
        figure.tight_layout()
        figure.savefig(path)
        pyplot.close(figure)
    print(f"wrote {path}")


def draw_panel(axes, column, variants, results):
    column = dict(column)
    logarithmic, baseline, least, most = (column.pop(key, None) for key in ("logarithmic", "baseline", "from", "to"))
    for row, variant in enumerate(variants):
        values = values_of(results, column, variant)
        axes.plot(values, [row] * len(values), ".", markersize=4, alpha=0.7, color=COLOURS[row % 2])
        if most is not None and any(value > most for value in values):
            axes.annotate(f"{max(values):.3g} \u2192", (most, row), ha="right", va="center", fontsize=6, color=COLOURS[row % 2])
        elif values:
            axes.plot([sum(values) / len(values)], [row], "|", markersize=8, color=COLOURS[row % 2])
    if baseline is not None:
        values = values_of(results, column, baseline)
        if values:
            axes.axvline(sum(values) / len(values), linewidth=0.6, linestyle=":", color=COLOURS[6])
    if logarithmic:
        axes.set_xscale("log")
    if least is not None or most is not None:
        axes.set_xlim(left=least, right=most)
    axes.set_title(column["title"], fontsize=7)
