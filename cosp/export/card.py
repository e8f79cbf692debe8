"""The model card beside an export: what it was trained on, how good each exit is, what it holds, how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cosp.export.chosen import Chosen
from cosp.submodel.footprint import footprint

LOADS = {
    "hf": "from transformers import {auto}\n\nmodel = {auto}.from_pretrained('.')",
    "sentences": (
        "import torch\nfrom safetensors.torch import load_file\nfrom transformers import AutoModel, AutoTokenizer\n\n"
        "tokenizer, words = AutoTokenizer.from_pretrained('.'), AutoModel.from_pretrained('.')\n"
        "# a pooler is told to be missing: nothing reads one\n"
        "head = load_file('2_Dense/model.safetensors')\n"
        "batch = tokenizer(texts, padding=True, truncation=True, return_tensors='pt')\n"
        "there = batch['attention_mask'][:, :, None]\n"
        "mean = (words(**batch).last_hidden_state * there).sum(1) / there.sum(1)\n"
        "logits = mean @ head['linear.weight'].T + head['linear.bias']\n\n"
        "# the same in sentence-transformers: SentenceTransformer('.').encode(texts)"
    ),
    "onnx": (
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession('model.onnx')\n"
        "logits = session.run(None, {{'{input}': samples}})  # one array an exit, shallow to deep"
    ),
    "torch": (
        "import torch\n\nmodel = torch.export.load('model.pt2').module()\n"
        "logits = model(samples)  # one tensor an exit, shallow to deep\n\n"
        "# the same for libtorch and older torch: torch.jit.load('model.ts.pt')(samples)"
    ),
}


def card(
    chosen: Chosen,
    *,
    kind: str,
    command: str,
    signature: str,
    checks: Sequence[str],
    measured: Mapping[int, float] | None,
    boards: Sequence[str],
) -> str:
    """Return the text of ``README.md``; ``measured`` is the accuracy of a board's submodel, None of the whole model."""
    facts = chosen.facts
    sections = (
        [f"# {facts.name}", "", *_summary(chosen)],
        ["## Data", "", *_data(chosen)],
        ["## Accuracy", "", *_accuracy(chosen, measured)],
        ["## Input and output", "", *_reading(chosen, signature)],
        ["## Use", "", "```python", _use(chosen, kind, signature), "```"],
        ["## Check", "", *(f"- {line}" for line in checks)],
        ["## Made by", "", "```", command, "```", "", _versions(chosen)],
        ["## Boards", "", *boards],
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _summary(chosen: Chosen) -> Iterator[str]:
    facts, shape = chosen.facts, chosen.facts.shape
    found = footprint(shape, facts.plan.counts)
    whose = "the global model"
    if chosen.client is not None:
        whose = f"the submodel of client {chosen.client} ({chosen.board})"
    yield (
        f"A transformer of {shape.blocks} blocks, width {shape.dim}, that tells {len(facts.classes)} classes apart: "
        f"{whose} up to block {chosen.last_exit}, trained by {facts.method} over {facts.version} versions, seed "
        f"{facts.seed}{'' if facts.adapted is None else f', then adapted to a stream (set {facts.adapted})'}."
    )
    yield ""
    yield f"{found.parameters:,} parameters, {found.forward_flops:,} FLOPs a sample."
    if not chosen.is_whole:
        kept = facts.plan.counts
        yield (
            f"Kept in each block: heads {', '.join(str(c.heads) for c in kept)} of {shape.heads}; hidden units "
            f"{', '.join(str(c.hidden) for c in kept)} of {shape.hidden}."
        )


def _data(chosen: Chosen) -> Iterator[str]:
    facts = chosen.facts
    counts = ", ".join(f"{count:,} {name}" for name, count in facts.samples.items())
    yield f"`{facts.data}`: {counts} samples. Classes: {', '.join(facts.classes)}."


def _accuracy(chosen: Chosen, measured: Mapping[int, float] | None) -> Iterator[str]:
    narrow = chosen.client is not None
    whole = "whole model's test accuracy" if narrow else "test accuracy"
    yield f"| exit after block | {whole} | macro F1 | validation accuracy |" + (" this submodel's |" if narrow else "")
    yield "|---|---|---|---|" + ("---|" if narrow else "")
    for score in chosen.facts.scores:
        own = measured.get(score.after) if measured else None
        last = f" {'not measured' if own is None else f'{own:.4f}'} |" if narrow else ""
        figures = " | ".join(f"{value:.4f}" for value in (score.accuracy, score.macro_f1, score.validation_accuracy))
        yield f"| {score.after} | {figures} |{last}"


def _reading(chosen: Chosen, signature: str) -> Iterator[str]:
    reading = chosen.facts.reading
    yield f"{signature}."
    yield ""
    if reading.kind == "texts":
        padding = chosen.facts.shape.padding
        filled = f", filled up with {padding}" if padding is not None else ""
        yield f"Texts are {chosen.facts.shape.sample_shape[0]} word numbers{filled}."
        return
    order = "(channels, height, width)" if reading.kind == "images" else "(steps, channels)"
    yield (
        f"Samples are {order}, `(x - mean) / std` in each channel with mean {_numbers(reading.mean)} and std "
        f"{_numbers(reading.std)}" + ("." if reading.white is None else f", where a white pixel is {reading.white:g}.")
    )


def _use(chosen: Chosen, kind: str, signature: str) -> str:
    images = chosen.facts.reading.kind == "images"
    if kind == "hf" and not images and chosen.facts.shape.pooling == "mean":
        kind = "sentences"
    auto = "AutoModelForImageClassification" if images else "AutoModelForSequenceClassification"
    return LOADS[kind].format(auto=auto, input=chosen.input_name)


def _versions(chosen: Chosen) -> str:
    return "Trained with " + ", ".join(f"{name} {number}" for name, number in chosen.facts.versions.items()) + "."


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
