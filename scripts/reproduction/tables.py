"""Tables in Markdown, of results: a row a variant and a column a figure, or the other way round; or a row a published value,
beside the seeds' range."""
import statistics

from .definition import Fault, take

COLUMN = ("title", "part", "key", "over", "digits", "factor", "minus", "values")


def number_of(run, key, over):
    """The figure of a run; `a / b` is a quotient. None where it has none."""
    if " / " in key:
        above, below = (number_of(run, part, over) for part in key.split(" / "))
        return above / below if above is not None and below else None
    value = run["figures"].get(key)
    return value.get(over) if isinstance(value, dict) else value


def values_of(results, column, variant, baseline=None):
    """One number a seed. With `minus`, less what the variant of that name has with the same seed."""
    take(column, COLUMN, f"column {column.get('title')}")
    if column["part"] not in results:
        raise Fault(f"column {column['title']}: there is no part {column['part']}")
    if "values" in column:
        return []
    runs = results[column["part"]]
    over, factor, minus = column.get("over", "mean"), column.get("factor", 1), column.get("minus")
    found = []
    for run in runs.of(variant):
        value = number_of(run, column["key"], over)
        if minus and value is not None:
            beside = runs.runs.get((minus, run["seed"]))
            less = beside and number_of(beside, column["key"], over)
            value = None if less is None else value - less
        if value is not None:
            found.append(value * factor)
    return found


def text_of(value, digits):
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.{max(digits - 1, 1)}e}".replace("e-0", "e-").replace("e+0", "e")
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:.{max(digits - whole, 0)}f}"


def cell(values, digits=3):
    """mean ± standard deviation of the seeds."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return text_of(mean, digits)
    return f"{text_of(mean, digits)} ± {text_of(statistics.stdev(values), 2)}"


def variants_of(table, results, order):
    """Those of the sweep that have a result in any of the columns, or those that the table names."""
    parts = {column["part"] for column in table["columns"]}
    names = table.get("variants") or order
    return [name for name in names if any(results[part].of(name) for part in parts if part in results)]


def as_given(value):
    """A published number has no more digits than were published."""
    return f"{value:,.10g}".replace("e-0", "e-")


def lines_of(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def beside_published(table, results):
    """Of each published value the seeds' median and range, and whether it lies in that."""
    take(table, ("part", "variant", "published"), "a table of published values")
    rows = [["step", "figure", "published", "median of the seeds", "least to most", "seeds", ""]]
    for line in table["published"]:
        take(line, ("title", "key", "step", "value", "over", "note"), "a published value")
        runs = [{"figures": run.get("at", {}).get(str(line["step"]), {})} for run in results[table["part"]].of(table["variant"])]
        found = [value for run in runs if (value := number_of(run, line["key"], line.get("over", "mean"))) is not None]
        if not runs:
            continue
        row = [f"{line['step']:,}", line["title"], as_given(line["value"])]
        if not found:  # to be seen: no such figure
            rows.append([*row, "", "", "0", ""])
            continue
        least, most = min(found), max(found)
        where = "one seed" if len(found) == 1 else "inside" if least <= line["value"] <= most else "outside"
        rows.append([*row, text_of(statistics.median(found), 4), f"{text_of(least, 4)} to {text_of(most, 4)}",
                     str(len(found)), line.get("note", where)])
    return lines_of(rows) if len(rows) > 1 else ""


def markdown(table, results, order):
    if "published" in table:
        return beside_published(table, results)
    take(table, ("columns", "variants", "layout"), "a table")
    columns, variants = table["columns"], variants_of(table, results, order)
    if not variants:
        return ""
    cells = {(name, at): as_given(column["values"][name]) if name in column.get("values", {})
             else cell(values_of(results, column, name), column.get("digits", 3))
             for name in variants for at, column in enumerate(columns)}
    if table.get("layout") == "variants across":
        rows = [["", *variants]] + [[column["title"], *(cells[name, at] for name in variants)]
                                    for at, column in enumerate(columns)]
    else:
        rows = [["", *(column["title"] for column in columns)]] + [
            [name, *(cells[name, at] for at in range(len(columns)))] for name in variants]
    return lines_of(rows)


def seeds_line(results, order):
    """How many seeds stand behind a table, of what has fewer than the most, and what has none."""
    counts = {name: len({run["seed"] for run in results.of(name)}) for name in order}
    most = max(counts.values(), default=0)
    fewer = [f"{name} {count}" for name, count in counts.items() if 0 < count < most]
    none = [name for name, count in counts.items() if count == 0]
    line = f"{most} seed{'' if most == 1 else 's'} of each variant"
    line += f"; of {', '.join(fewer)}" if fewer else ""
    return line + (f". Not run yet: {', '.join(none)}." if none and most else ".") if most else "Not run yet."
