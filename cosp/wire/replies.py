"""One reply a message: whoever sends two has lied, even if the first was fine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from flwr.app import Message

Sent = TypeVar("Sent")


def taken_once(
    replies: Iterable[Message],
    in_flight: dict[str, Sent],
    *,
    take: Callable[[Sent, Message], bool],
    second: Callable[[Sent | None], None],
) -> list[Sent]:
    """Take each of ``replies`` out of what is ``in_flight``, by message id; return those that ``take`` found good and
    that were the only ones to their message.

    ``second`` is told of a reply to what has been answered, or, with None, to what nobody sent. Each reply is let go of
    before the next is made.
    """
    answered: dict[str, Sent] = {}
    good: dict[str, Sent] = {}
    for reply in replies:
        message_id = reply.metadata.reply_to_message_id
        sent = in_flight.pop(message_id, None)
        if sent is None:
            good.pop(message_id, None)
            second(answered.get(message_id))
            continue
        answered[message_id] = sent
        if take(sent, reply):
            good[message_id] = sent
        del reply
    return list(good.values())
