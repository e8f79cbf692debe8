"""What a run is of, in words: the lines at the head of its page."""

from __future__ import annotations

from collections import Counter

from cosp.report.rows import Run
from cosp.report.tallies import by_share, untrained_blocks
from cosp.report.units import quantity, quorum

RULES = {
    "rate": "by keep ratio of the whole model's {budget}; by memory where a board has none",
    "memory": "by the board's memory",
    "memory_share": "by keep ratio of the memory that training the whole model takes",
    "time": "by the board's memory and a target round time",
}


def about(run: Run) -> list[tuple[str, str]]:
    """Return (name, text): data, model, method, fleet, how submodels are sized, rounds."""
    header, told = run.header, run.told
    samples, held_back = sum(c.samples for c in run.clients), sum(c.test_samples for c in run.clients)
    exits = ", ".join(map(str, header.exits))
    size = _joined(f"{header.blocks} blocks", told.model, f"{quantity(header.parameters, '')} parameters")
    until = _joined(
        f"{header.versions} versions" if header.versions is not None else "",
        f"{header.until_s:g} {'' if run.measured else 'virtual '}seconds" if header.until_s is not None else "",
        by=" or ",
    )
    return [
        ("Data", _joined(told.data, f"{len(header.classes)} classes", f"{samples:,} training samples on "
                         f"{header.clients} clients", f"{held_back:,} held back by them", told.partition)),
        ("Model", f"{size}; exits after blocks {exits}"),
        ("Method", _joined(header.method, told.variant and f"variant {told.variant}", f"seed {header.seed}")),
        ("Fleet", _joined(told.fleet, _boards(run), by=": ")),
        ("Submodels", RULES.get(told.rule, told.rule).format(budget=told.budget)),
        ("Rounds", f"quorum {quorum(header.quorum)}, {until or 'as long as asked'}"),
        *([("Privacy", _privacy(run))] if told.privacy else []),
    ]  # fmt: skip


def _privacy(run: Run) -> str:
    most = max((row.epsilon for row in run.arrivals if row.epsilon is not None), default=0.0)
    return _joined(run.told.privacy, f"epsilon {most:.3g} at most, of the client that sent most",
                   "losses, accuracies, sample and class counts are sent as they are")  # fmt: skip


def untrained_text(run: Run) -> str:
    """Say which blocks no update trained and what that makes of the exits behind them; empty if all were trained."""
    blocks = untrained_blocks(run)
    if not blocks:
        return ""
    behind = [block for block in run.header.exits if block >= blocks[0]]
    return (
        f"Trained by nobody: block {_list(blocks)}. {_exits(behind)} of weights as they were drawn: "
        "they say nothing of the method."
    )


def limit_text(run: Run) -> str:
    """Say what the mark in the figure of memory is."""
    if by_share(run):
        return "its keep ratio of what training the whole model holds, or its memory if that is less"
    return "its memory"


def measured_text(run: Run) -> str:
    """Say what the open dots in the figure of memory are; empty where nothing was measured."""
    if not run.measured:
        return ""
    return " Full dots are predicted; open ones were measured: the process with Python and torch, or the GPU's tensors."


def _exits(blocks: list[int]) -> str:
    return f"The accuracies of the exit{'s' if len(blocks) > 1 else ''} after block {_list(blocks)} are"


def _list(numbers: tuple[int, ...] | list[int]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))


def _boards(run: Run) -> str:
    counts = Counter(client.board for client in run.clients)
    return ", ".join(f"{count} {board}" for board, count in counts.items())


def _joined(*texts: str, by: str = ", ") -> str:
    return by.join(filter(None, texts))
