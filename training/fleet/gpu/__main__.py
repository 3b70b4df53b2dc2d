"""Trains the runs of a wave side by side: `python -m gpu FOLDER [WAVE]`.

The folder holds `jobs.json`, images and teachers, as `training.fleet prepare` writes them; each run
that is done adds `NAME.npz` (weights by the Keras model's names) and `NAME.json` (its log). Several
waves may run at a time, each a process of its own.

The runs of a wave advance together, step by step, each on its own CUDA stream, where a captured
graph makes a whole step one launch: augmentation, forward and backward pass, update.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .learning import Run
from .pictures import Bank, Pictures

TRIED = 6  # epochs after which it is known how many fit into the time


def train(folder: Path, wave: int, device: torch.device, deadline: float) -> None:
    """Train the runs of a wave; what is done is skipped.

    Args:
        folder: With the jobs.
        wave: Which of them.
        device: To train on.
        deadline: `time.time()` until which to be done: the schedules are shortened to it.
    """
    jobs = json.loads((folder / "jobs.json").read_text())
    specifications = [
        spec for spec in jobs["waves"][wave] if not (folder / f"{spec['name']}.json").exists()
    ]
    pictures: dict[str, Pictures] = {}
    banks: dict[str, Bank] = {}
    runs = []
    for spec in specifications:
        name = spec["dataset"]
        if name not in pictures:
            pictures[name] = Pictures.load(
                folder / f"pictures-{name}.npz", jobs["datasets"][name], device
            )
        teacher = spec["teacher"]
        if teacher and teacher not in banks:
            banks[teacher] = Bank(pictures[name], spec["description"]["classes"])
        start = _load(folder / f"{spec['start_from']}.npz") if spec["start_from"] else None
        runs.append(Run(spec, pictures[name], banks.get(teacher), start, device))
    started = time.time()
    for run in runs:
        run.prepare()
    _wait(device)
    say(wave, f"{len(runs)} runs prepared in {time.time() - started:.1f} s")
    for teacher, bank in banks.items():
        started = time.time()
        bank.fill(folder / f"{teacher}.npz")
        say(wave, f"answers of {teacher}: {time.time() - started:.1f} s")
    active = list(runs)
    while active:
        started = time.time()
        for run in active:
            run.begin_epoch()
        for step in range(max(run.steps for run in active)):
            for run in active:
                if step < run.steps:
                    run.step()
        for run in active:
            run.end_epoch()
        _wait(device)
        seconds = time.time() - started
        late = time.time() + seconds > deadline
        for run in active:
            run.seconds.append(seconds)
            if run.done or late:
                run.finish()
                _save(folder, run)
        epoch = active[0].epoch
        if epoch == TRIED and deadline < math.inf:
            left = int(0.97 * (deadline - time.time()) / np.median(active[0].seconds[-3:]))
            for run in active:
                if epoch + left < run.epochs:
                    say(wave, f"{run.spec['name']}: {epoch + left} epochs of {run.epochs} fit")
                    run.shorten(epoch + left)
        if epoch <= 2 or epoch % 10 == 0 or late:
            lines = "; ".join(run.line() for run in active)
            say(wave, f"epoch {epoch}, {seconds:.2f} s for {len(active)}: {lines}")
        active = [] if late else [run for run in active if not run.done]


def say(wave: int, text: str) -> None:
    """Print a line with the time."""
    print(f"[{time.strftime('%H:%M:%S')} wave {wave}] {text}", flush=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _save(folder: Path, run: Run) -> None:
    """Write weights and log, each whole or not at all; the log, which says "done", last."""
    name = run.spec["name"]
    if run.spec["keep_weights"]:
        draft = folder / f"draft-{name}.npz"
        np.savez_compressed(draft, **run.weights())
        draft.replace(folder / f"{name}.npz")
    draft = folder / f"draft-{name}.json"
    draft.write_text(json.dumps({"spec": run.spec, **run.record()}))
    draft.replace(folder / f"{name}.json")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("wave", type=int, nargs="?", default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    torch.backends.cudnn.benchmark = True
    deadline = time.time() + chosen.seconds
    train(chosen.folder, chosen.wave, torch.device(chosen.device), deadline)


if __name__ == "__main__":
    main()
