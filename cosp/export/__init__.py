"""Models for use elsewhere: in transformers, in onnxruntime, in torch alone."""

from __future__ import annotations
