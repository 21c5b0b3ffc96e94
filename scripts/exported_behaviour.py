"""What a folder that `sluice export` wrote must do in transformers, whatever its release: generation with every kind of
cache and with padding, arguments, outputs, training, resized embeddings, saving. Used by check_transformers.py.

Each function returns sentences about what is wrong, none where all is right.
"""

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

BOUND = 1e-4  # largest difference of two logits
PROMPT, NEW = 16, 24


def load(folder, kind=AutoModelForCausalLM, **options):
    return kind.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32, **options).eval()


def distance(a, b):
    return (a - b).abs().max().item() if a.shape == b.shape else float("inf")


def is_own(model):
    return model.config.model_type == "sluice"


def written(model, batch, **options):
    """The tokens that are chosen greedily behind a batch of prompts."""
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **options}
    with torch.no_grad():
        return model.generate(batch, **options)[:, batch.shape[1] :].tolist()


def generation_faults(model, tokens):
    faults = []
    whole = tokens[None, :PROMPT]
    expected = written(model, whole, use_cache=False)
    for name, options in (("a cache", {}), ("a static cache", {"cache_implementation": "static"})):
        if written(model, whole, **options) != expected:
            faults.append(f"greedy tokens with {name} and without one differ")
    if written(model, whole, num_beams=3) != written(model, whole, num_beams=3, use_cache=False):
        faults.append("three beams with a cache and without one differ")

    short = 5  # tokens less in the first prompt, which is padded on the left
    padded = torch.cat([torch.zeros(short, dtype=torch.long), tokens[: PROMPT - short]])
    batch = torch.stack([padded, tokens[:PROMPT]])
    mask = torch.ones_like(batch)
    mask[0, :short] = 0
    alone = [written(model, tokens[None, : PROMPT - short], use_cache=False)[0], expected[0]]
    ways = {"": {}, " without a cache": {"use_cache": False}, " with a static cache": {"cache_implementation": "static"}}
    for name, options in ways.items():
        if written(model, batch, attention_mask=mask, **options) != alone:
            faults.append(f"a batch with padding on the left{name} is not written as its prompts are alone")
    return faults


def argument_faults(model, tokens, logits):
    """Of our own model file: what it takes, and that it takes nothing that it does not understand."""
    faults, batch = [], tokens[None]
    with torch.no_grad():
        for name in ("something", "past_values"):
            try:
                model(batch, **{name: 1})
                faults.append(f"the argument {name} vanishes")
            except TypeError as error:
                if name not in str(error):
                    faults.append(f"the error does not name the argument {name}: {error}")
        model(batch, token_type_ids=torch.zeros_like(batch), something=None)
        if distance(model(batch, return_dict=False)[0][0], logits) > BOUND:
            faults.append("return_dict=False gives other logits")
        embeds = model.get_input_embeddings()(batch)
        if distance(model(inputs_embeds=embeds).logits[0], logits) > BOUND:
            faults.append("inputs_embeds gives other logits")
        for wrong in ({}, {"input_ids": batch, "inputs_embeds": embeds}, {"input_ids": batch, "attention_mask": batch[:, 1:]}):
            try:
                model(**wrong)
                faults.append(f"{sorted(wrong)} is taken")
            except ValueError:
                pass
        kept = model(batch, logits_to_keep=3).logits[0], model(batch, logits_to_keep=torch.tensor([2, 5])).logits[0]
        if distance(kept[0], logits[-3:]) > BOUND or distance(kept[1], logits[[2, 5]]) > BOUND:
            faults.append("logits_to_keep keeps other logits")
        lower = torch.ones(1, 1, len(tokens), len(tokens)).tril()
        for mask in (lower.bool(), (1 - lower) * torch.finfo(torch.float32).min):
            if distance(model(batch, attention_mask=mask).logits[0], logits) > BOUND:
                faults.append(f"a {mask.dtype} mask of four dimensions gives other logits")
    return faults


def output_faults(folder, run_folder, tokens, logits):
    """Attention weights and gates are those of the maps that Sluice itself wrote at the end of training."""
    faults = []
    model, base = load(folder), load(folder, AutoModel)
    maps = json.loads(max((Path(run_folder) / "attention").glob("step_*.json")).read_text())
    R = model.config.sluice_model.get("registers", 0)  # the first rows and columns of the maps
    batch = torch.tensor([[int(token) for token in maps["tokens"][R:]]])
    with torch.no_grad():
        out = model(batch, output_attentions=True, output_hidden_states=True, output_gates=True)
        whole = model(tokens[None], output_hidden_states=True)
        states = base(tokens[None]).last_hidden_state
        if distance(model.get_output_embeddings()(states)[0], logits) > BOUND:
            faults.append("AutoModel gives other states")
    description = model.config.sluice_model
    if len(whole.hidden_states) != description["layers"] + 1 or distance(whole.hidden_states[-1], states) > BOUND:
        faults.append("hidden_states are not the embeddings and the result of each layer")
    slots = torch.cat([slot.sum(-1) for slot in out.slots])
    attention = description["attention"]  # rows of noise heads, of affine weights, of gated windows sum to less or more
    sums_to_one = attention["score"]["type"] in ("softmax", "softmax_plus_one", "sink_logit")
    sums_to_one = sums_to_one and attention.get("permuted") != "gated"
    if sums_to_one and not {"difference", "affine"} & set(attention):
        sums = torch.cat([weights.sum(-1) for weights in out.attentions]) + slots
        if (sums - 1).abs().max() > 1e-5:
            faults.append("attention weights and slots do not sum to one")
    for entry in maps["maps"]:
        layer, head = entry["layer"], entry["head"]
        for row, weights in enumerate(entry["weights"][R:]):
            mine = torch.cat([out.slots[layer][0, head, row, :R], out.attentions[layer][0, head, row, : row + 1]])
            if distance(mine, torch.tensor(weights)) > 1e-5:
                faults.append(f"attentions of layer {layer}, head {head}, row {row} are not those of Sluice")
                break
        if entry.get("gate"):
            gates = out.gates[layer][0]
            mine = gates[head * gates.shape[0] // description["heads"]].mean(-1)
            if distance(mine, torch.tensor(entry["gate"][R:])) > 1e-5:
                faults.append(f"gates of layer {layer}, head {head} are not those of Sluice")
        elif out.get("gates") is not None:
            faults.append("there are gates in a model without")
    return faults


def implementation_faults(folder, tokens, logits):
    """Plain softmax, gated or not, may go through torch's fused attention; other scores say that they cannot."""
    faults = []
    fused = load(folder).config.sluice_model["attention"]["score"]["type"] == "softmax"
    for name in ("eager", "sdpa"):
        try:
            model = load(folder, attn_implementation=name)
        except ValueError as error:
            if fused or name == "eager":
                faults.append(f"attn_implementation={name} is refused: {error}")
            continue
        if name == "sdpa" and not fused:
            faults.append("attn_implementation=sdpa is taken for a score that is no softmax")
        with torch.no_grad():
            if distance(model(tokens[None]).logits[0], logits) > BOUND:
                faults.append(f"attn_implementation={name} gives other logits")
    return faults


def gradients(model, batch):
    model.zero_grad()
    model(batch, labels=batch).loss.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def checkpointing_faults(folder, tokens):
    model = load(folder).train()
    plain = gradients(model, tokens[None])
    model.gradient_checkpointing_enable()
    saved = gradients(model, tokens[None])
    return [] if all(distance(a, b) < 1e-6 for a, b in zip(plain, saved)) else ["gradient checkpointing changes gradients"]


def trainer_faults(folder, tokens):
    """However 8 sequences are divided, the Trainer must see one loss and one gradient."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    rows = tokens[:64].view(8, -1)
    labels = rows.clone()
    labels[:, 0] = -100  # older releases count it, though nothing predicts it
    labels[0, 1:4] = -100
    data = [{"input_ids": row, "labels": label} for row, label in zip(rows, labels)]
    expected = load(folder)(rows, labels=labels).loss.item()
    seen = []
    for size in (8, 2, 1):
        with tempfile.TemporaryDirectory(prefix="check_transformers_") as work:
            options = TrainingArguments(
                work, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size, max_steps=1, learning_rate=0.0,
                logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True,
            )
            trainer = Trainer(load(folder), options, train_dataset=data)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            seen.append(next((line["loss"], line["grad_norm"]) for line in trainer.state.log_history if "grad_norm" in line))
    if any(abs(loss - expected) > 2e-3 * expected or abs(norm - seen[0][1]) > 2e-3 * seen[0][1] for loss, norm in seen):
        return [f"loss and gradient norm change with the Trainer's accumulation: {seen}, the loss is {expected:.4f}"]
    return []


def saving_faults(run_sluice, folder, tokens, work):
    """Resized embeddings survive saving and loading, and what transformers saves is a folder that Sluice imports."""
    faults, more = [], 9
    model = load(folder)
    model.save_pretrained(work / "saved")
    run_sluice("import", work / "saved", "--out", work / "saved_run")
    run_sluice("export", work / "saved_run", work / "saved_again")
    ours, theirs = (load_file(work / name / "model.safetensors") for name in ("saved", "saved_again"))
    if ours.keys() != theirs.keys() or any(not torch.equal(ours[name], theirs[name]) for name in ours):
        faults.append("weights that transformers has saved come back from Sluice changed")
    vocabulary = model.config.vocab_size + more
    model.resize_token_embeddings(vocabulary)
    model.save_pretrained(work / "resized")
    back = load(work / "resized")
    with torch.no_grad():
        logits = model(tokens[None]).logits
        if logits.shape[-1] != vocabulary or distance(back(tokens[None]).logits, logits) > 0:
            faults.append("resized embeddings do not survive saving")
    if back.get_input_embeddings().weight.shape != back.get_output_embeddings().weight.shape:
        faults.append("the head has not the embedding's size")
    run_sluice("import", work / "resized", "--out", work / "resized_run")
    return faults


def guarded(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:  # whatever the library raises is a fault of what was tried
        return [f"{function.__name__}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]


def faults_of(run_sluice, folder, run_folder, work, trainer=True):
    """All of the above. `run_sluice(*arguments)` runs the program; `work` is an empty folder."""
    stored = load_file(Path(folder) / "logits.safetensors")
    tokens, logits = stored["tokens"].long(), stored["logits"]
    model = load(folder)
    faults = guarded(generation_faults, model, tokens) + guarded(saving_faults, run_sluice, folder, tokens, work)
    if trainer:
        faults += guarded(trainer_faults, folder, tokens)
    if is_own(model):
        faults += guarded(argument_faults, model, tokens, logits)
        faults += guarded(output_faults, folder, run_folder, tokens, logits)
        faults += guarded(implementation_faults, folder, tokens, logits) + guarded(checkpointing_faults, folder, tokens)
    return faults
