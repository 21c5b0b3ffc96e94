"""Text for language models, encoded into data/ once as docs/reproductions/small_lm.md says."""
from .definition import Fault

SEPARATOR = "<|doc|>"


def encode_text(place):
    data = place.quick_folder / "data" if place.args.quick else place.root / "data"
    if (data / "docs.model").is_file() and list(data.glob("docs_val_*.bin")):
        return
    texts = quick_texts(place) if place.args.quick else (place.args.text, place.args.held_out)
    if None in texts:
        raise Fault("this part needs text: --text FILE and --held-out FILE, documents separated by lines of <|doc|>")
    data.mkdir(parents=True, exist_ok=True)
    model = data / "docs.model"
    size = ["--vocab", 512] if place.args.quick else []
    place.sluice("tokenizer", "train", texts[0], "--separator", SEPARATOR, "--sample-mb", 30, "--out", model, *size)
    for text, name in zip(texts, ("docs_train", "docs_val")):
        place.sluice("tokenizer", "encode", text, "--separator", SEPARATOR, "--tokenizer", model, "--out", data / name)


def quick_texts(place):
    """The project's own pages: small, and always there."""
    pages = sorted((place.root / "docs").rglob("*.md"))
    place.quick_folder.mkdir(parents=True, exist_ok=True)
    texts = place.quick_folder / "train.txt", place.quick_folder / "val.txt"
    for text, some in zip(texts, (pages[4:], pages[:4])):
        text.write_text(f"\n{SEPARATOR}\n".join(page.read_text(encoding="utf-8") for page in some), encoding="utf-8")
    return texts
