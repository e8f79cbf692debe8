"""A grid in this process whose messages go through Flower's own bytes, there and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from cosp.simulation.local_grid import LocalGrid

FIRST = 100
"""The node of client 0."""


class PostalGrid(LocalGrid):
    """Replies are there as soon as a message is sent; ``answers`` makes them."""

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__()
        self.nodes = list(nodes)
        self.asked: list[tuple[int, str]] = []
        """(node, message type) of all that was sent."""
        self._replies: dict[str, list[Message]] = {}

    def answers(self, request: Message) -> Sequence[Message]:
        """Return what comes back for ``request``, as the node has it."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [reply for message_id in list(message_ids) for reply in self._replies.pop(message_id, ())]

    def _push(self, message: Message) -> str:
        message_id = self.number(message)
        request = posted(message)
        self.asked.append((request.metadata.dst_node_id, request.metadata.message_type))
        self._replies[message_id] = [posted(reply) for reply in self.answers(request)]
        return message_id

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


def posted(message: Message) -> Message:
    """Return ``message`` as the other side gets it: taken apart into bytes and put together again."""
    objects = {key: value.deflate() for key, value in get_all_nested_objects(message).items()}
    back = inflate_object_from_contents(message.object_id, objects)
    assert isinstance(back, Message)
    back.metadata.__dict__["_message_id"] = message.metadata.message_id
    return back
