"""What a run asks of a grid whose time is virtual, so that it can go on where it broke off."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from flwr.app import Message


@runtime_checkable
class VirtualTime(Protocol):
    """A grid that can be put where it stood. Any other grid's tasks are lost when its run breaks off."""

    def clock(self) -> float:
        """Return the virtual time in seconds."""

    def state(self) -> dict[str, Any]:
        """Return where the fleet stands, as JSON values."""

    def restore(self, now_s: float, state: dict[str, Any]) -> None:
        """Put the fleet where it stood at ``now_s``; ``resend`` follows for each message that was under way."""

    def resend(self, sent_s: float, message: Message) -> str:
        """Send a message again whose task has been under way since ``sent_s``; return its new id."""
