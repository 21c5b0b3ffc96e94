"""Tokenizers of every kind, exported: transformers must make the tokens that Sluice makes, of documents, of odd text and of
text that spells the names of special tokens. Used by check_transformers.py.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

KINDS = ("unigram", "bpe", "characters", "bytes", "gpt2", "wordpiece")


@dataclasses.dataclass
class Tools:
    sluice: Callable  # (*arguments): runs the program, its output
    train: Callable  # (folder, changes of the model, data): a run of a few steps
    work: Path  # an empty folder


ODD = "naïve café — “quotes”  two blanks\n\ttab\n\n漢字 and 12345 🙂 end <s> </s> "
# As WikiText has them, and as no text should.
NAMES = " = Robert <unk> = \n\n In 2000 <unk> , <unk><unk> had <s> a </s> role <0x41> <|endoftext|> in <pad>\n<|endoftext|>"


def gpt2_files(folder, text):
    """vocab.json and merges.txt, as GPT-2's release has them."""
    folder.mkdir()
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([text], vocab_size=600, min_frequency=2, show_progress=False)
    tokenizer.save_model(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<|endoftext|>"] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return folder


def bert_files(folder, text):
    """vocab.txt and tokenizer_config.json, as a cased BERT's folder has them."""
    folder.mkdir()
    tokenizer = BertWordPieceTokenizer(lowercase=False)
    tokenizer.train_from_iterator([text], vocab_size=700, min_frequency=2, limit_alphabet=200, show_progress=False)
    tokenizer.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "tokenizer_class": "BertTokenizer"}))
    return folder


def make_tokenizer(tools, kind, texts):
    if kind == "bytes":
        return "bytes"
    if kind == "gpt2":
        return gpt2_files(tools.work / "gpt2", "".join(texts.values()))
    if kind == "wordpiece":
        return bert_files(tools.work / "bert", "".join(texts.values()))
    tokenizer = tools.work / ("own.json" if kind == "characters" else "own.model")
    vocabulary = ["--vocab", 700] if kind != "characters" else []
    files = [tools.work / f"{name}.txt" for name in texts]
    tools.sluice("tokenizer", "train", *files, "--type", kind, "--out", tokenizer, *vocabulary)
    return tokenizer


def exported(tools, name, tokenizer, data):
    """The library's tokenizer of the export of a run, and the folder."""
    work = tools.work / name
    work.mkdir()
    run_folder = tools.train(work, {"vocab_size": 1024, "layers": 1}, data)
    tools.sluice("export", run_folder, work / "exported", "--tokenizer", tokenizer)
    return AutoTokenizer.from_pretrained(work / "exported", trust_remote_code=True), work / "exported"


def prefix_faults(tools, tokenizer, first):
    """What a run says each of its sequences begins with stands before every text, once; and batches can be padded."""
    shards = tools.work / "shard"
    tools.sluice("tokenizer", "encode", tools.work / "documents.txt", "--tokenizer", tokenizer, "--out", shards)
    files = [f"{shards}_00000.bin"]
    data = {"type": "tokens", "train_shards": files, "validation_shards": files, "tokenizer": str(tokenizer), "first_token": first}
    theirs, folder = exported(tools, "first", tokenizer, data)
    theirs.save_pretrained(tools.work / "again")
    again, text, faults = AutoTokenizer.from_pretrained(tools.work / "again"), "the first tokens", []
    tokens = theirs.encode(text, add_special_tokens=False)
    for name, each in (("", theirs), (" of the tokenizer that was saved and read", again)):
        if each(text).input_ids != [first] + tokens or each.encode(NAMES)[1:] != theirs.encode(NAMES, add_special_tokens=False):
            faults.append(f"tokens{name} are not the first token and those of the text")
        if each.decode([first] + tokens, skip_special_tokens=True) != text:
            faults.append(f"the text{name} does not come back")
    batch = theirs(["ab", text], padding=True, padding_side="left", return_tensors="pt")
    if set(batch) != {"input_ids", "attention_mask"} or batch.attention_mask[0, 0] != 0 or batch.input_ids[1, 0] != first:
        faults.append("a batch is not padded on the left")
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        if model.generate(**batch, max_new_tokens=2).shape[0] != 2 or model.generation_config.pad_token_id is None:
            faults.append("a padded batch is not continued")
    return faults


def bert_faults(theirs, text):
    """It is BERT's tokenizer, which puts its tokens around every text, and knows its mask."""
    tokens = theirs.encode(text, add_special_tokens=False)
    faults = [] if type(theirs).__name__ in ("BertTokenizer", "BertTokenizerFast") else [f"is a {type(theirs).__name__}"]
    if theirs(text).input_ids != [theirs.cls_token_id] + tokens + [theirs.sep_token_id]:
        faults.append("no [CLS] and [SEP] around a text")
    if theirs.convert_ids_to_tokens([theirs.pad_token_id, theirs.mask_token_id]) != ["[PAD]", "[MASK]"]:
        faults.append("special tokens are not known")
    return faults


def check(tools, kind, documents):
    """A row of the table of tokenizers, and whether it is right."""
    texts = {"documents": documents, "odd": ODD, "names": NAMES}
    for name, text in texts.items():
        (tools.work / f"{name}.txt").write_text(text)
    tokenizer = make_tokenizer(tools, kind, texts)
    theirs, _ = exported(tools, "plain", tokenizer, "random")
    counts, right, ties = [], True, False
    for name, text in texts.items():
        printed = tools.sluice("tokenizer", "encode", tools.work / f"{name}.txt", "--tokenizer", tokenizer, "--print")
        ours, tokens = [int(token) for token in printed.split()], theirs.encode(text, add_special_tokens=kind != "wordpiece")
        # Of two ways to divide a text with the same sum of scores, rounding chooses: the same pieces in another order.
        ties = ties or (kind == "unigram" and ours != tokens)
        same = sorted(ours) == sorted(tokens) if kind == "unigram" else ours == tokens
        right = right and same and (kind == "wordpiece" or theirs.decode(tokens) == text)
        counts.append(f"{len(ours):,}")
    faults = [] if right else ["**differ**"]
    faults += bert_faults(theirs, ODD) if kind == "wordpiece" else prefix_faults(tools, tokenizer, theirs.bos_token_id)
    verdict = "equal but for the order of pieces with equal sums" if ties else "equal"
    return [kind, *counts, "; ".join(faults) or verdict], not faults
