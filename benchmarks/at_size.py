"""Two versions of a model of real size on four boards here: memory of the processes and time against `cosp plan`.

ViT-B/16 (86 M parameters, images of 224 x 224) and BERT-base (110 M, 64 words) as transformers makes them from a
configuration, random weights, read as pretrained models. The boards are this machine as `cosp calibrate` has just found
it, with keep ratios 1, 0.7, 0.5 and 0.25, one worker process.

Memory is sampled every 0.2 s: of each process its resident set, of all together the proportional ones, where shared
pages count once. The worker's is also told as it stood waiting for its first task; `cosp plan` predicts the peak of a
task. CPU time is the worker's: other work on the machine weighs on it less than on the wall clock.

    python benchmarks/at_size.py vit|bert [--profile here.yaml] [--out docs/results/at_size.json]

Needs transformers, 8 GB and minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

SAMPLES, BATCH, CLASSES, WORDS = 40, 4, 10, 64
KEEPS = (1.0, 0.7, 0.5, 0.25)
EVERY_S = 0.2


def saved_model(kind: str, folder: Path) -> Path:
    """Write a model of random weights as transformers does."""
    import transformers

    if kind == "vit":
        model: Any = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=CLASSES))
    else:
        model = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=CLASSES))
    model.save_pretrained(folder)
    return folder


def saved_data(kind: str, path: Path) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(SAMPLES) % CLASSES
    if kind == "vit":
        np.savez(path, x=rng.integers(0, 256, (SAMPLES, 224, 224, 3), dtype=np.uint8), y=y)
    else:
        np.savez(path, x=rng.integers(1000, 30_522, (SAMPLES, WORDS), dtype=np.int32), y=y)
    return path


def config(kind: str, folder: Path, profile: Path) -> dict[str, Any]:
    return {
        "name": f"{kind}_at_size",
        "data": {
            "name": str(saved_data(kind, folder / "data.npz")),
            "validation": 4,
            "test": 4,
            "partition": {"kind": "iid", "min_samples": 4},
        },
        "fleet": {
            "boards": [{"count": 1, "device": str(profile), "link": "ethernet", "keep": keep} for keep in KEEPS],
        },
        "model": {"pretrained": str(saved_model(kind, folder / "model"))},
        "method": {"name": "co-s2p"},
        "training": {"epochs": 1, "batch_size": BATCH, "learning_rate": 0.0001},
        "server": {"versions": 2, "quorum": 0.5},
    }


def cosp(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "cosp.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cosp {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def watched(path: Path, out: Path) -> dict[str, Any]:
    """Run the configuration with one worker and return what its processes took."""
    started = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "cosp.cli", "run", str(path), "--out", str(out), "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks: dict[int, int] = {}
    waits: dict[int, int] = {}
    cpu: dict[int, float] = {}
    tree, whole = 0, 0.0
    while process.poll() is None:
        total = 0
        for each in (process, *process.children(recursive=True)):
            try:
                found = each.memory_full_info()
                used = sum(each.cpu_times()[:2])
            except psutil.Error:  # it has just ended
                continue
            total += found.pss
            if used > cpu.get(each.pid, -1) + 0.05 or each.pid not in cpu:
                cpu[each.pid] = used
            elif each.pid not in waits:
                waits[each.pid] = found.rss
            peaks[each.pid] = max(peaks.get(each.pid, 0), found.rss)
        tree = max(tree, total)
        time.sleep(EVERY_S)
    whole = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"cosp run {path} ended with {process.returncode}: {process.stderr.read()[-500:]}")
    worker = max((pid for pid in peaks if pid != process.pid), key=lambda pid: cpu[pid])
    return {
        "tree_peak_pss_bytes": tree,
        "server_peak_rss_bytes": peaks[process.pid],
        "worker_peak_rss_bytes": peaks[worker],
        "worker_waiting_rss_bytes": waits.get(worker, 0),
        "server_cpu_s": cpu[process.pid],
        "worker_cpu_s": cpu[worker],
        "wall_s": whole,
    }


def predicted(path: Path, out: Path) -> dict[str, Any]:
    """Return what `cosp plan` says of the tasks, and the run's own prices of those that it did."""
    rows = json.loads(cosp("plan", str(path), "--json"))
    rows = rows["boards"] if isinstance(rows, dict) else rows
    done = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    trained = [row for row in done if row["kind"] == "arrival"]
    return {
        "boards": [
            {key: row[key] for key in ("keep", "depth", "heads", "hidden", "parameters", "memory_bytes", "compute_s")}
            for row in rows
        ],
        "tasks": len(trained),
        "tasks_compute_s": sum(row["compute_s"] for row in trained),
    }


def page(held: dict[str, Any]) -> list[str]:
    """Return all figures as a page."""
    lines = [
        "# Models of real size: memory and time against `cosp plan`",
        "",
        "Written by `python benchmarks/at_size.py vit` and `bert` with `--out docs/results/at_size.json`; how it is",
        "measured stands there. One worker process; four boards of keep ratio 1, 0.7, 0.5, 0.25; two versions.",
        "",
        "| | planned | used |",
        "|---|---|---|",
    ]
    for kind, found in held.items():
        most = max(found["boards"], key=lambda board: board["memory_bytes"])
        grown = found["worker_peak_rss_bytes"] - found["worker_waiting_rss_bytes"]
        lines += [
            f"| {kind}: the worker, beyond waiting | {_gb(most['memory_bytes'])} | {_gb(grown)} |",
            f"| {kind}: the worker, all of it | | {_gb(found['worker_peak_rss_bytes'])} |",
            f"| {kind}: the server | | {_gb(found['server_peak_rss_bytes'])} |",
            f"| {kind}: all processes together | | {_gb(found['tree_peak_pss_bytes'])} |",
            f"| {kind}: CPU seconds of {found['tasks']} training tasks, and of the worker, which also evaluates | "
            f"{found['tasks_compute_s']:.0f} s | {found['worker_cpu_s']:.0f} s |",
        ]
    return lines


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("vit", "bert"))
    parser.add_argument("--out", type=Path, help="a JSON file to add the figures to")
    parser.add_argument("--profile", type=Path, help="of this machine, by cosp calibrate; default: made first")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        profile = (given.profile or folder / "here.yaml").resolve()
        if given.profile is None:
            cosp("calibrate", "--out", str(profile), "--repeats", "1")
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config(given.kind, folder, profile)), encoding="utf-8")
        found = watched(path, folder / "run")
        found |= predicted(path, folder / "run")
    if given.out:
        held = json.loads(given.out.read_text()) if given.out.is_file() else {}
        held = {**held, given.kind: found}
        given.out.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
        given.out.with_suffix(".md").write_text("\n".join(page(held)) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
