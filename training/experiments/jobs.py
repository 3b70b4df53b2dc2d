"""Runs of `training.fit` in processes of their own, several at once.

Runs that each have cores to themselves wait for nobody: on two cores, two runs side by side are
done sooner than one after the other. And a process that ends gives all its memory back.
"""

import os
import queue
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from training import UserError
from training.trainer import hardware
from training.trainer.config import Config


class Jobs:
    """Runs at most so many trainings at once, and shares the cores among them.

    Args:
        number: How many.

    Attributes:
        stopped: Whether a task failed, or the work was interrupted.

    Raises:
        UserError: There are fewer cores.
    """

    def __init__(self, number: int) -> None:
        cores = hardware.cores()
        if not 1 <= number <= len(cores):
            raise UserError(f"--jobs must be from 1 to {len(cores)}, the cores, not {number}")
        self.number = number
        self._free: queue.Queue[set[int]] = queue.Queue()
        for first in range(number):
            self._free.put(set(cores[first::number]))
        self._children: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def train(self, config: Config) -> None:
        """Train a run to its end in a process of its own, once there are cores for it.

        Raises:
            UserError: It failed.
        """
        cores = self._free.get()
        try:
            with subprocess.Popen(
                [sys.executable, *shlex.split(config.command)[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # Ctrl-C comes to this process, which stops its children
            ) as child:
                last = self._attend(child, cores, config.folder.name)
        finally:
            self._free.put(cores)
        if status := child.returncode:  # below 0 a signal's, of which the last line says nothing
            reason = last.removeprefix("training.fit: error: ") if status > 0 else ""
            raise UserError(f"the run {config.folder} failed: {reason or f'status {status}'}")

    def _attend(self, child: "subprocess.Popen[str]", cores: set[int], name: str) -> str:
        """Print what a child prints, and return its last line."""
        self._children.add(child)
        if self.stopped:
            child.terminate()
        if hasattr(os, "sched_setaffinity"):  # elsewhere than on Linux, runs share all cores
            os.sched_setaffinity(child.pid, cores)
        last = ""
        assert child.stdout
        for line in filter(str.strip, child.stdout):
            last = line.strip()
            print(f"{name}: {last}", flush=True)
        self._children.remove(child)
        return last

    def work(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Do every task, in this order, so many at once; what `train` started ends before this.

        Raises:
            UserError: A task failed; none is begun after it.
            KeyboardInterrupt: Ctrl-C or SIGTERM.
        """

        def attempt(task: Callable[[], object]) -> None:
            if self.stopped:
                return
            try:
                task()
            except BaseException:
                self.stopped = True
                raise

        with ThreadPoolExecutor(self.number) as threads:
            futures = [threads.submit(attempt, task) for task in tasks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.stopped = True
                for child in tuple(self._children):
                    child.terminate()
                raise
