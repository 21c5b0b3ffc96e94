#!/usr/bin/env python3
"""Makes tests/golden/wordpiece: a small vocabulary of BERT's kind, vocab.txt, learned from the texts below and from this
project's README; and golden.json, the tokens that the library `tokenizers` (PyPI) gives the texts, and the texts that it
makes of them again, under the settings of BERT's files. `transformers` must agree where it has the setting. Run with
both installed, from the repository's root.
"""
import json
import os
import tempfile

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast

FOLDER = "tests/golden/wordpiece"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

TEXTS = [
    "", " ", "\n\n\t ", "Hello world", "  Hello   world  ",
    "The quick brown FOX doesn't jump over 13 lazy dogs, does it?! (No.)",
    "I've said they're what we'll do; he'd, you're, don't -- it's \"fine\".",
    "unaffable unwordpieceable attention attentions residualnorms",
    "naïve café Ünïcödé ÀÉÎÕÜ ñ ß ẞ ﬁ Ångström résumé",
    "cafe\u0301 a\u0300b e\u0323\u0307\u0301 q\u0307\u0323 \u0344 \u0340 \u1e9b\u0323 \u212b \u2126",
    "İstanbul ıI Iİ ΑΣ ΑΣΑΣ ΌΔΟΣ Ὀδυσσεύς ǅungla Ǆ ǈ \u1e9e \u0345",
    "Привет, мир! Ёлка й Йод Україна ґ",
    "Γειά σου Κόσμε — ὕβρις",
    "שלום עולם בְּרֵאשִׁית مرحبا بالعالم مَرْحَبًا नमस्ते दुनिया हिन्दी ไทยแลนด์ กำ ស្វាគមន៍ བོད་",
    "你好，世界。 漢字かな交じり文 カタカナ がぎぐ 한국어 각 ㄱㄴ \u1100\u1161\u11a8",
    "hello世界123 x漢y 㐀㐁 豈更 𠀀𠀁 𫝀 \U0002b820 \U0002ceb0 \U0002f800 \u9fff \ufa70 々〆〇",
    "👩\u200d👩\u200d👧 family 🇪🇺 flags 🎉🎉 ☺️ 👍🏽 🏴\U000e0067\U000e0062\U000e007f ©®™",
    "no\u00a0break\u3000wide\u2003em\u0085next\u2028line\u2029par\u202fthin\u205fmath\u1680ogham\u180emongol",
    "zero\u200bwidth\u200cnon\u200djoin\u2060word\ufeffbom\u00adsoft\u061c \u200e\u200f\u202a\u202c\u2066\u2069",
    "\x00a\x01b\x07c\x08d\x0be\x0cf\x1bg\x1ch\x1di\x1ej\x1fk\x7fl\x80m\x9fn",
    "tab\ttab\r\nline\rend\n", "\ufffd replaced \ufffe \uffff \ue000 \U000f0000 \U0010ffff \ufff9\ufffa\ufffb",
    "$1.50 + 2^10 = <x> | `code` ~tilde~ @user #tag _under_score_ a\\b {c} [d] 100% & more*",
    "“quotes” ‘single’ «guillemets» „low“ ¿qué? ¡sí! … ‥ · • † ‡ § ¶ № ′ ″ ‹a› – — ―",
    "¢£¤¥€ ± × ÷ ¬ ¦ ¨ ¯ ´ ¸ ª º ¹²³ ½¼ Ⅷ ٣٤٥ ① ⅓",
    "؟ ، ؛ ٪ ۔ । ॥ ๏ ༺ ། ፡ ። ᙮ ᠂ ‿ ⁀ ⁅ ⁆ 、 。 〈 〉 《 》 「 」 【 】 〜 ・ ー ｡ ､ ！ ？ ＂ （ ） ＿ ﹏",
    "\u2e3a\u2e43\u2e52 \u0c77\u1b7d \U00011fff \U00010a50 \U0001e95e \U00016fe2 \u0af0",
    "\u0897\u1c89\u1c8a\ua7cb\ua7cd \ua7da\ua7dc \U00010d50\U00010d65 \U00016ea0\U00016eb8 \U00010400\U0001e900 \u10a0\u1c90\u13a0\uab70",
    "a\u0897b \U00011938 \U00011935\U00011930 \u1dfa\u0301 x\u0301\u1dfa\u0323 \u08d4\u08ca \U0001e8d0\U0001e944\U0001d165",
    "\U000105c9 \U00016121 \U00011383 \U0001d15e \U0001d1bb \U0001109a \u2adc \ufb1d \ufb2a \u0958",
    "word" * 24 + "abcd", "word" * 25, "word" * 25 + "x", "é" * 100, "é" * 101, "漢" * 120, "x" * 99 + "é", "🎉" * 101,
    "a" * 300 + " b", "ab " * 60, "1" * 100, "-" * 30, "e" + "\u0301" * 120,
    "[CLS] is [MASK] text [SEP] here [PAD][UNK] [mask] [cls]", "[MASK]", "##ing ## #a ##", "[unused0] [unused1]",
    "<think> so </think> <tool><to>user word words sword word! café CAFÉ cafe\u0301 Ünit ünit <br>",
    "def f(x):\n    if x == 3.14:\n        return x**2  # 100%\n",
    "http://a.b/c?d=e&f;// /* x */ ...!!!\n\n(a)[b]{c}\r\n",
    "Z\u0335\u0321a\u0338\u0347l\u0337g\u0336o\u0334 t̷e̶x̸t̵ \u0300\u0301 leading\u20dd\u20e3 \ufe0f\ufe00",
    "𝔘𝔫𝔦𝟙𝟚 🂡 \U0001f9ff \U0002070e ａｂｃ ＡＢＣ ℌ Ω K Å ſ ŉ ǰ",
    "mixedРусский中文العربية한글ไทย", "trailing blanks   ", "\u3000 leading wide",
]

ADDED = [AddedToken("<think>", rstrip=True, normalized=False), AddedToken("</think>", lstrip=True, normalized=False),
         AddedToken("<to", normalized=False), AddedToken("<tool>", normalized=False), AddedToken("word", single_word=True),
         AddedToken("café"), AddedToken("Ünit"), AddedToken("[unused1]", special=True), AddedToken("<br>", special=True)]


def bert(**settings):
    return normalizers.BertNormalizer(**settings)


# name: normalizer, settings of the model, added tokens, what transformers' BertTokenizer is told (or None)
CASES = {
    "uncased": (bert(), {}, [], {}),
    "cased": (bert(lowercase=False), {}, [], {"do_lower_case": False}),
    "cased_without_accents": (bert(lowercase=False, strip_accents=True), {}, [], {"do_lower_case": False, "strip_accents": True}),
    "uncased_with_accents": (bert(strip_accents=False), {}, [], {"strip_accents": False}),
    "chinese_together": (bert(handle_chinese_chars=False), {}, [], {"tokenize_chinese_chars": False}),
    "not_cleaned": (bert(clean_text=False, lowercase=False), {}, [], None),
    "as_it_is": (None, {}, [], None),
    "added": (bert(), {}, ADDED, None),
    "added_cased": (bert(lowercase=False), {}, ADDED, None),
    "short_words": (bert(), {"max_input_chars_per_word": 7}, [], None),
}


def learned():
    """The tokens by their ids: half of them from the texts as they are, so that capital letters have some, too."""
    names = list(SPECIAL) + ["[unused0]"]
    for normalizer, size in ((bert(), 700), (bert(lowercase=False), 900)):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, show_progress=False, limit_alphabet=300)
        with open("README.md", encoding="utf-8") as readme:
            tokenizer.train_from_iterator(TEXTS[:30] * 3 + [readme.read()], trainer)
        vocabulary = tokenizer.get_vocab()
        names += [name for name in sorted(vocabulary, key=vocabulary.get) if name not in names]
    return names


def case(name, vocabulary, file):
    normalizer, settings, added, told = CASES[name]
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]", **settings))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    ids = [("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])]
    tokenizer.post_processor = processors.BertProcessing(*ids) if name == "cased" else processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens(added)
    tokenizer.encode_special_tokens = True
    tokens = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    if told is not None:
        theirs = BertTokenizerFast.from_pretrained(os.path.dirname(file), split_special_tokens=True, **told)
        assert [theirs.encode(text, add_special_tokens=False) for text in TEXTS] == tokens, name
        assert theirs.encode(TEXTS[5]) == [vocabulary["[CLS]"], *tokens[5], vocabulary["[SEP]"]]
    whole = json.loads(tokenizer.to_str())
    del whole["model"]["vocab"]
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in tokens]
    return {"name": name, "json": whole, "config": told, "tokens": tokens, "decoded": decoded}


def main():
    os.makedirs(FOLDER, exist_ok=True)
    names, file = learned(), os.path.join(FOLDER, "vocab.txt")
    with open(file, "w", encoding="utf-8") as out:
        out.writelines(name + "\n" for name in names)
    vocabulary = {name: id for id, name in enumerate(names)}
    with tempfile.TemporaryDirectory() as folder:
        beside = os.path.join(folder, "vocab.txt")
        with open(beside, "w", encoding="utf-8") as out:
            out.writelines(name + "\n" for name in names)
        cases = [case(name, vocabulary, beside) for name in CASES]
    golden = {"texts": TEXTS, "cases": cases}
    with open(os.path.join(FOLDER, "golden.json"), "w", encoding="ascii") as out:
        json.dump(golden, out, separators=(",", ":"))
        out.write("\n")
    known = sum(token != 1 for one in cases for tokens in one["tokens"] for token in tokens)
    print(f"{len(names)} tokens, {len(TEXTS)} texts, {len(cases)} cases, {known} known tokens")


main()
