"""Flower's ClientApp: the same app on a board and in Flower's simulation.

On a board the node config names the socket of its trainer, and this process, which Flower starts anew for each task,
hands the task over and imports no torch. Without one it trains here.
"""

from __future__ import annotations

from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    """Say who this client is."""
    answer: Message = _place(context).introduce(message, context)
    return answer


@app.train()
@app.query("score")
def work(message: Message, context: Context) -> Message:
    """Do the task of an instruction: train a submodel, score the units of one, or sum its exits' features."""
    answer: Message = _place(context).work(message, context)
    return answer


@app.query("serve")
def serve(message: Message, context: Context) -> Message:
    """Answer what came of the board's own stream, and take the set that the message brings."""
    answer: Message = _place(context).serve(message, context)
    return answer


def _place(context: Context) -> Any:
    """Return the module that works where this node's trainer is."""
    if "trainer-socket" in context.node_config:
        from cosp.flower import at_trainer

        return at_trainer
    from cosp.flower import in_process

    return in_process
