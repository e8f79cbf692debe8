"""What is read from another library's files computes what that library computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface as hf
import pytest
import torch

from cosp.checkpoints import Checkpoint, Imported, import_state, open_checkpoint
from cosp.models.transformer import Transformer, initialise

CLASSES = tuple(f"class {i}" for i in range(hf.CLASSES))
CLOSE = 1e-5


def shape_of(checkpoint: Checkpoint, family: str, *, image: int = 8, length: int = hf.LENGTH, **changes: Any) -> Any:
    given: dict[str, Any] = {"classes": hf.CLASSES, "exits": (1, 2), "pooling": None, "variant": "plain", **changes}
    if family in hf.TEXTS:
        return checkpoint.architecture.shape(sample_shape=(length,), vocabulary=hf.WORDS, **given)
    return checkpoint.architecture.shape(sample_shape=(1, image, image), **given)


def imported(folder: Path, family: str, **changes: Any) -> tuple[Imported, Transformer]:
    checkpoint = open_checkpoint(str(folder))
    shape = shape_of(checkpoint, family, **changes)
    found = import_state(checkpoint, shape, CLASSES[: shape.classes])
    model = Transformer(shape)
    initialise(model, torch.Generator().manual_seed(5))
    model.load_state_dict(found.state({name: p.detach() for name, p in model.named_parameters()}))
    return found, model.eval()


@pytest.mark.parametrize("family", hf.FAMILIES)
@torch.no_grad()
def test_the_deepest_exits_logits_are_theirs(tmp_path: Path, family: str):
    theirs = hf.classifier(family)
    found, ours = imported(hf.saved(theirs, tmp_path), family)
    x = hf.samples(family)
    expected = theirs(**hf.inputs(family, x)).logits
    assert float((ours(x)[-1] - expected).abs().max()) <= CLOSE
    assert float(expected.std()) > 0.1
    assert (found.left_out, found.drawn) == ((), ("exits.0.head.weight", "exits.0.head.bias"))
