"""The page: what stands between `<!-- table NAME -->` and `<!-- end -->` is replaced, and pictures are drawn anew."""
import re

from .definition import Fault, read_json
from .picture import draw_picture
from .tables import markdown, seeds_line


def write_page(place, definition):
    results = {name: place.results(place.args.name, part) for name, part in definition.parts.items()}
    orders = {name: list(read_json(place.root / part.sweep)["variants"]) for name, part in definition.parts.items()}
    everything = list(dict.fromkeys(name for order in orders.values() for name in order))
    blocks = {f"table {name}": markdown(table, results, everything) for name, table in definition.tables.items()}
    blocks |= {f"seeds {name}": seeds_line(results[name], order) for name, order in orders.items()}
    text = definition.page.read_text(encoding="utf-8")
    page = place.quick_folder / definition.page.name if definition.quick else definition.page
    page.write_text(replaced(text, blocks, definition.page), encoding="utf-8")
    print(f"wrote {page}")
    images = place.quick_folder if definition.quick else place.root / "docs" / "images"
    for name, picture in definition.pictures.items():
        draw_picture(images / name, picture, results, everything)


def replaced(text, blocks, path):
    """The text with each of its marked blocks made anew; a mark that nothing stands for is a fault, and so is the reverse."""
    marks = re.findall(r"<!-- ((?:table|seeds) [\w-]+) -->", text)
    for mark in marks:
        if mark not in blocks:
            raise Fault(f"{path} has a mark <!-- {mark} -->, and the definition no such table")
    for name in blocks:
        if name.startswith("table ") and name not in marks:
            raise Fault(f"{path} has no mark <!-- {name} -->, where the definition's table would stand")
    for mark in marks:
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- end -->)"
        block = f"\n{blocks[mark]}\n\n" if blocks[mark] else "\n"
        text, count = re.subn(pattern, lambda found, block=block: found[1] + block + found[2], text, flags=re.S)
        if count != 1:
            raise Fault(f"{path}: <!-- {mark} --> needs an <!-- end --> after it, and may stand once")
    return text
