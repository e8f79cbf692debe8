"""Encoded images and folders of them: read alike by the server and, with Pillow and numpy alone, on a board."""

from __future__ import annotations
