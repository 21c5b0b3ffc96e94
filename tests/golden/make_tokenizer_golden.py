#!/usr/bin/env python3
"""Makes tests/golden/gpt2_tokenizer: a small GPT-2 tokenizer as three files, and texts with the tokens that the library
`tokenizers` (PyPI) gives them; and tests/golden/tokenizers.json: one small vocabulary under the splits, normalizers and
added tokens of other models, with the tokens of `tokenizers` and `tiktoken`. Run with both installed, from the
repository's root.

The vocabularies are learned from the texts below and from this project's README, so that words of several alphabets have
tokens of their own.
"""
import base64
import json
import os

import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FOLDER = "tests/golden/gpt2_tokenizer"

TEXTS = [
    "",
    "Hello world",
    " Hello  world ",
    "I'm sure they've said it's what we'll do; he'd, you're, don't",
    "I'M SURE 'S 'll'lls '' ' s 'tis",
    "rock 'n' roll's",
    "a\n\nb\n c\n\t d \n  e",
    "   \n\n   x",
    "trailing blanks   ",
    "\t\ttabs\tand\r\nline ends\r\n\r\n",
    "def f(x):\n    if x == 3.14:\n        return x**2  # 100%\n",
    "12345 1 2 3rd x2y 3.1415",
    "Ⅷ ½ ٣٤٥ 一二三 x²",
    "naïve café Ünïcödé — “quotes” … €5",
    "cafe\u0301 a\u0300b",
    "Привет, мир! Γειά σου Κόσμε",
    "שלום עולם مرحبا بالعالم नमस्ते दुनिया",
    "你好，世界。 こんにちは 세계",
    "👩\u200d👩\u200d👧 family 🇪🇺 flags 🎉🎉",
    "no\u00a0break\u3000wide\u2003em\u0085next\u2028line",
    "\u1680\u180e\u200b\ufeff zero width",
    "\x00\x01\x1c\x1d\x7f control",
    "<|endoftext|> is text here<|endoftext|>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "xyzzy" * 40,
    "🂡𝔘𝔫𝔦𝟙𝟚 \U0001f9ff\U0002070e",
]


HARD_TEXTS = TEXTS + [
    "HTTPServer's iPhone XMLHttpRequest PARSEJson ǅungla ABCdef ÀÉîõ",
    "I'M he'S we'LL they'RE 'ſ it'ſ ‘s don’t",
    "1 12 123 1234 1234567 ١٢٣٤ ½½½ x1y22",
    "http://a.b/c?d=e&f;// /* x */ ...!!!\n\n(a)[b]{c}\r\n",
    "a  b   c    d\n \n  \r\n   e \t\t f    ",
    "e\u0301 a\u0323\u0307 \u1100\u1161\u11a8 \u212b \ufb01 \u0344 q\u0307\u0323 \u30ab\u3099 \U00011938 \U00011935\U00011930",
    "<think> so </think> <tool><to><|im_start|>user<|im_start|> word words sword word! caf\u00e9 cafe\u0301",
    "カタカナ漢字かな一二三 hello世界123",
    "\u0897\u1c89\u1c8a\ua7cb\ua7cd \U00016105\U0001cc00\U00016d40 \U0002ebf0\U00031350 \U0001e5d0",
    "_snake_case __init__ a_b $x #y @z % ^ & ~ `q` | \\\\",
    "\u200b\u200d\u2060 \u3000\u3000x \u2028y\u0085z\x1c",
    " leading", "trailing ", " ", "\n", "    ", "\r\n\r\n",
    "A" * 70, "aB" * 40, " " * 70 + "x", "\n" * 9 + " ", "9" * 31, "!" * 33, "é" * 21, "漢" * 25,
]

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
CL100K_NEW = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
              r"\s+(?!\S)|\s")
QWEN = CL100K.replace("{1,3}", "")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+"]
# Where Ruby's syntax, in which the library reads expressions, means something else than PCRE2's.
RUBY = r"\p{Han}+|\h{2,3}+|\W|\S{2}?|(?m:.)|^x|[^\S\n]+$|\w{,2}"


def split(expression, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(expression), behavior, invert)


def byte_level(use_regex=False, add_prefix_space=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)


ADDED = [AddedToken("<think>", rstrip=True, normalized=False), AddedToken("</think>", lstrip=True, normalized=False),
         AddedToken("<to", normalized=False), AddedToken("<tool>", normalized=False), AddedToken("word", single_word=True),
         AddedToken("cafe\u0301"), AddedToken("    ")]

# name: normalizer, pre-tokenizers, settings of the model, added tokens
PIPELINES = {
    "cl100k": (None, [split(CL100K), byte_level()], {}, []),
    "cl100k_new": (None, [split(CL100K_NEW), byte_level()], {}, []),
    "llama3": (None, [split(CL100K), byte_level()], {"ignore_merges": True}, []),
    "qwen": (normalizers.NFC(), [split(QWEN), byte_level()], {}, ADDED),
    "o200k": (None, [split(O200K, "removed", True), byte_level()], {}, []),
    "deepseek": (normalizers.Sequence([]), [split(e) for e in DEEPSEEK] + [byte_level()], {}, []),
    "starcoder": (None, [pre_tokenizers.Digits(True), byte_level(True)], {}, []),
    "digits": (None, [pre_tokenizers.Digits(False), byte_level(True)], {}, []),
    "prefix": (None, [byte_level(True, True)], {}, ADDED),
    "behaviors": (None, [split(r"\p{Lu}", "merged_with_next"), split(r"\s", "merged_with_previous"),
                         pre_tokenizers.Split("a", "contiguous"), byte_level()], {}, []),
    "ruby": (None, [split(RUBY), byte_level()], {}, []),
    "no_split": (None, [byte_level()], {}, []),
}
TIKTOKEN = {"r50k_base": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
            "cl100k_base": CL100K_NEW, "o200k_base": O200K, "llama3": CL100K}


def tokens_of(tokenizer):
    tokenizer.encode_special_tokens = True
    return [tokenizer.encode(text).ids for text in HARD_TEXTS]


def learned_model(readme):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(CL100K), byte_level()])
    trainer = trainers.BpeTrainer(vocab_size=600, min_frequency=2, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(HARD_TEXTS * 2 + [readme], trainer)
    return json.loads(tokenizer.to_str())["model"]


def pipeline_case(model, name):
    normalizer, pre, settings, added = PIPELINES[name]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=model["vocab"], merges=merges, **settings))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre[0] if len(pre) == 1 else pre_tokenizers.Sequence(pre)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    tokenizer.add_tokens(added)
    case = json.loads(tokenizer.to_str())
    for key in ("vocab", "merges"):
        del case["model"][key]
    return {"name": name, "json": case, "tokens": tokens_of(tokenizer)}


# Characters instead of bytes: some unknown, some spelled in bytes.
def character_cases():
    cases = []
    for name, settings, extra in (("fallback", {"byte_fallback": True}, [f"<0x{b:02X}>" for b in range(256)]),
                                  ("unknown", {"unk_token": "<unk>"}, []),
                                  ("fused", {"unk_token": "<unk>", "fuse_unk": True}, [])):
        texts = ["<unk>", *extra, *"abcdehlo \n漢é", "he", "ll", "hell", "hello", "aa"]
        vocabulary = {text: id for id, text in enumerate(texts)}
        merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("a", "a")]
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, **settings))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        cases.append({"name": name, "json": json.loads(tokenizer.to_str()), "tokens": tokens_of(tokenizer)})
    return cases


def rank_cases(model):
    byte_of = {written: byte for byte, written in enumerate(bytes_to_characters())}
    ranks = {bytes(byte_of[c] for c in token): id for token, id in model["vocab"].items()}
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    cases = []
    for name, expression in TIKTOKEN.items():
        encoding = tiktoken.Encoding(name, pat_str=expression, mergeable_ranks=ranks, special_tokens={})
        cases.append({"name": name, "tokens": [encoding.encode_ordinary(text) for text in HARD_TEXTS]})
    return {"file": "".join(lines), "cases": cases}


def bytes_to_characters():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def make_tokenizers(readme):
    model = learned_model(readme)
    golden = {"texts": HARD_TEXTS, "model": {"vocab": model["vocab"], "merges": model["merges"]},
              "pipelines": [pipeline_case(model, name) for name in PIPELINES], "characters": character_cases(),
              "ranks": rank_cases(model)}
    with open("tests/golden/tokenizers.json", "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def make_gpt2(readme):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXTS * 2 + [readme], trainer)
    os.makedirs(FOLDER, exist_ok=True)
    tokenizer.model.save(FOLDER)
    tokenizer.save(f"{FOLDER}/tokenizer.json", pretty=False)
    tokenizer.encode_special_tokens = True
    cases = [{"text": text, "tokens": tokenizer.encode(text).ids} for text in TEXTS]
    for case in cases:
        assert tokenizer.decode(case["tokens"], skip_special_tokens=False) == case["text"]
    with open(f"{FOLDER}/cases.json", "w", encoding="utf-8") as file:
        json.dump(cases, file, ensure_ascii=True, indent=0)
        file.write("\n")


def main():
    with open("README.md", encoding="utf-8") as file:
        readme = file.read()
    make_gpt2(readme)
    make_tokenizers(readme)


main()
