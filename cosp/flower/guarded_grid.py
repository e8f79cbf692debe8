"""Flower's grid, of which one sender can spoil its own reply and no other.

Flower 1.41 unpacks a reply as its sender wrote it: one that cannot be unpacked raises in ``pull_messages`` and takes
those pulled with it along; and whom it answers is read from what the sender wrote, where SuperLink knows better. Here
the first is an error of that reply alone, and SuperLink's word counts for the second.

Private Flower names are used in this file, and a test holds them to what Flower does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.run import Run
from flwr.superlink.grid import http_grid


class GuardedGrid(Grid):
    """Does what ``grid`` does."""

    def __init__(self, grid: http_grid.HttpGrid) -> None:
        self._grid = grid

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        answered: dict[str, str] = {}
        with _each_by_itself(), _noting(self._grid, answered):
            replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            asked = answered.get(reply.metadata.message_id)
            if asked is not None:
                reply.metadata.__dict__["_reply_to_message_id"] = asked
        return replies

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)


def guarded(grid: Grid) -> Grid:
    """Return ``grid``, guarded if its replies come from other machines."""
    return GuardedGrid(grid) if isinstance(grid, http_grid.HttpGrid) else grid


@contextmanager
def _each_by_itself() -> Iterator[None]:
    """Unpack a reply as soon as its parts are there, where Flower makes an error of what cannot be had."""
    flowers: Any = http_grid
    pull, unpack = flowers.pull_objects, flowers.inflate_object_from_contents
    unpacked: dict[str, Message] = {}

    def pull_and_unpack(object_ids: list[str], *rest: Any, **named: Any) -> dict[str, bytes]:
        parts: dict[str, bytes] = pull(object_ids, *rest, **named)
        whole = object_ids[-1]  # children come first
        try:
            message: object = unpack(whole, parts)
        except Exception as error:  # bytes from outside: a class by name, children by number, JSON at any depth
            raise ObjectPullError(whole, f"cannot be unpacked: {error!r:.200}") from error
        if not isinstance(message, Message) or not (message.has_content() or message.has_error()):
            raise ObjectPullError(whole, "is no reply")
        unpacked[whole] = message
        return {}

    def take(object_id: str, parts: dict[str, bytes]) -> Message:
        return unpacked.pop(object_id)

    flowers.pull_objects, flowers.inflate_object_from_contents = pull_and_unpack, take
    try:
        yield
    finally:
        flowers.pull_objects, flowers.inflate_object_from_contents = pull, unpack


@contextmanager
def _noting(grid: http_grid.HttpGrid, answered: dict[str, str]) -> Iterator[None]:
    """Note in ``answered`` which message each reply answers, as SuperLink says."""
    client: Any = grid._runtime_client
    ask: Callable[[Any], Any] = client.PullMessages

    def ask_and_note(request: Any) -> Any:
        response = ask(request)
        for reply in response.messages_list:
            answered[reply.metadata.message_id] = reply.metadata.reply_to_message_id
        return response

    client.PullMessages = ask_and_note
    try:
        yield
    finally:
        client.PullMessages = ask
