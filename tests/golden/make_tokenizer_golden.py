#!/usr/bin/env python3
"""Makes tests/golden/gpt2_tokenizer: a small GPT-2 tokenizer as three files, and texts with the tokens that the library
`tokenizers` (PyPI) gives them. Run with that library installed, from the repository's root.

The vocabulary is learned from the texts below and from this project's README, so that words of several alphabets have
tokens of their own.
"""
import json
import os

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    with open("README.md", encoding="utf-8") as readme:
        tokenizer.train_from_iterator(TEXTS * 2 + [readme.read()], trainer)
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


main()
