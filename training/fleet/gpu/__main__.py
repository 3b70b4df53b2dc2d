"""Trains the runs of waves side by side: `python -m gpu FOLDER [WAVES]`.

The folder holds `jobs.json`, images and teachers, as `training.fleet prepare` writes them; each run
that is done adds `NAME.npz` (weights by the Keras model's names) and `NAME.json` (its log). Several
processes may run at a time, also on the same waves.

The runs of a wave advance together, step by step, each on its own CUDA stream, where a captured
graph makes a whole step one launch: augmentation, forward and backward pass, update.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock  # which PyTorch needs too
import numpy as np
import torch
from torch import Tensor

from .learning import Run
from .pictures import Bank, Pictures

TRIED = 6  # epochs after which it is known how many fit into the time


def train(
    folder: Path,
    jobs: Mapping[str, Any],
    wave: int,
    device: torch.device,
    deadline: float,
    together: int | None = None,
) -> None:
    """Train the runs of a wave; what is done, or taken by another process, is skipped.

    Args:
        folder: Of the jobs.
        jobs: What `jobs.json` there says.
        wave: Which of them.
        device: To train on.
        deadline: `time.time()` until which to be done: the schedules are shortened to it.
        together: How many runs side by side, one group after the other; by default all.
    """
    loaded = _Loaded(folder, jobs["datasets"], device)
    free = (spec for spec in jobs["waves"][wave] if _take(folder, spec["name"]))
    while time.time() < deadline and (taken := list(itertools.islice(free, together))):
        _train_together(loaded, wave, taken, deadline)


_TAKEN: list[filelock.BaseFileLock] = []  # until this process ends


def _take(folder: Path, name: str) -> bool:
    """Whether the run is not done, and no process that lives has taken it; then this one has."""
    lock = filelock.FileLock(folder / f"{name}.taken", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return False
    _TAKEN.append(lock)
    return not (folder / f"{name}.json").exists()


class _Loaded:
    """Data sets and teachers' answers, loaded once for all runs of a process."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], device: torch.device) -> None:
        self.folder, self.device = folder, device
        self._facts = facts
        self._pictures: dict[str, Pictures] = {}
        self.banks: dict[str, Bank] = {}

    def run(self, spec: Mapping[str, Any]) -> Run:
        """The run, ready to be prepared."""
        name, teacher = spec["dataset"], spec["teacher"]
        if name not in self._pictures:
            file = self.folder / f"pictures-{name}.npz"
            self._pictures[name] = Pictures.load(file, self._facts[name], self.device)
        pictures = self._pictures[name]
        if teacher and teacher not in self.banks:
            self.banks[teacher] = Bank(pictures, spec["description"]["classes"])
        start = _load(self.folder / f"{spec['start_from']}.npz") if spec["start_from"] else None
        return Run(spec, pictures, self.banks.get(teacher), start, self.device)


def _train_together(
    loaded: _Loaded, wave: int, specifications: Sequence[Mapping[str, Any]], deadline: float
) -> None:
    runs, filled = [], set(loaded.banks)
    for spec in specifications:
        runs.append(loaded.run(spec))
    started = time.time()
    for run in runs:
        run.prepare()
    _wait(loaded.device)
    say(wave, f"{len(runs)} runs prepared in {time.time() - started:.1f} s")
    for teacher in loaded.banks.keys() - filled:
        started = time.time()
        loaded.banks[teacher].fill(loaded.folder / f"{teacher}.npz")
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
        _wait(loaded.device)
        seconds = time.time() - started
        late = time.time() + seconds > deadline
        for run in active:
            run.seconds.append(seconds)
            if run.done or late:
                run.finish()
                _save(loaded.folder, run)
        epoch = active[0].epoch
        if epoch == TRIED and deadline < math.inf:
            left = max(1, int(0.97 * (deadline - time.time()) / np.median(active[0].seconds[-3:])))
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
    parser.add_argument("waves", type=int, nargs="*", default=[0])
    parser.add_argument("--together", type=int, help="runs side by side (default: a wave)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    if chosen.together is not None and chosen.together < 1:
        parser.error("--together is at least 1")
    if not chosen.seconds > 0:
        parser.error(f"--seconds must be positive, not {chosen.seconds}")
    try:
        jobs = json.loads((chosen.folder / "jobs.json").read_text())
        lacking = [wave for wave in chosen.waves if wave not in range(len(jobs["waves"]))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"{chosen.folder} holds no jobs: {error}")
    if lacking:
        parser.error(f"there is no wave {lacking[0]}, only {len(jobs['waves'])} from 0 on")
    torch.backends.cudnn.benchmark = True
    deadline = time.time() + chosen.seconds
    for wave in chosen.waves:
        train(chosen.folder, jobs, wave, torch.device(chosen.device), deadline, chosen.together)


if __name__ == "__main__":
    main()
