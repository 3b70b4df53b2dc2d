"""The one place where keras-tuner is imported, for Keras 2, and a tuner whose trials are runs.

keras-tuner 1.4.8 asks `import keras` which Keras there is, finds Keras 3, and then refuses the
models of `tf_keras`. While it is imported, `keras` is `tf_keras`.
"""

import contextlib
import copy
import itertools
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import tf_keras

from training import UserError
from training.experiments.jobs import Jobs

with mock.patch.dict(sys.modules, keras=tf_keras):
    try:
        import keras_tuner as kt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the sweep needs {error.name}, which is not installed: pip install keras-tuner",
            name=error.name,
        ) from error

Values = dict[str, Any]


class Grid(kt.oracles.GridSearchOracle):
    """A grid search whose workers do not wait for each other, and that can be resumed.

    keras-tuner's own gives the next combination after a trial has ended, in case it brings new
    hyperparameters, which none does here; and it does not save where it is.
    """

    def reload(self) -> None:
        """Restore the order of the combinations from that of the trials."""
        super().reload()
        for before, trial_id in itertools.pairwise([None, *self.start_order]):
            self._ordered_ids.insert(trial_id, before)
        self._populate_next = list(self.start_order)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next combination."""
        found = super().populate_space(trial_id)
        if found["status"] == kt.engine.trial.TrialStatus.RUNNING:
            self._populate_next.append(trial_id)
        return found


class Tuner(kt.engine.base_tuner.BaseTuner):
    """Measures what an oracle proposes.

    Args:
        oracle: keras-tuner's; its objective is the "error".
        measure: Gives the error for a trial's values, hyperband's epochs included.
        folder: For keras-tuner's own files, by which a search is resumed.
        jobs: In which the trials run.

    Raises:
        UserError: Of keras-tuner's environment variables one is missing.
    """

    def __init__(
        self, oracle: kt.Oracle, measure: Callable[[Values], float], folder: Path, jobs: Jobs
    ) -> None:
        needed = {"KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"}
        if "KERASTUNER_ORACLE_IP" in os.environ and (lacking := needed - os.environ.keys()):
            raise UserError(f"KERASTUNER_ORACLE_IP needs {' and '.join(sorted(lacking))}")
        self._measure = measure
        self._jobs = jobs
        place = {"directory": str(folder), "project_name": "keras_tuner"}
        with contextlib.redirect_stdout(None):
            try:
                super().__init__(oracle, **place)
            except (
                ValueError,
                KeyError,
                RuntimeError,
            ):  # cut in half; the runs know what was trained
                super().__init__(oracle, **place, overwrite=True)

    def pre_create_trial(self) -> None:
        """Wait before asking: with nothing to hand out, the oracle is asked without pause."""
        time.sleep(0.1)
        if self._jobs.stopped:
            raise kt.errors.FatalError("stopped")

    def run_trial(self, trial: Any, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Measure a trial's values."""
        try:
            return {"error": self._measure(trial.hyperparameters.values)}
        except UserError as error:  # concerns every trial: the search ends
            raise kt.errors.FatalError(str(error)) from error

    def results(self) -> list[tuple[Values, float]]:
        """Search, several trials at once; or serve as keras-tuner's chief or worker.

        Returns:
            The trials' values with their errors. A worker returns none: its chief has them.

        Raises:
            UserError: A trial cannot be made, or chief and workers do not find each other.
        """
        workers = [copy.copy(self) for _ in range(self._jobs.number)]
        for number, worker in enumerate(workers):
            worker.tuner_id += f"-{number}" if number else ""
        try:
            if is_chief():
                self.search(verbose=0)
            else:
                self._jobs.work([partial(worker.search, verbose=0) for worker in workers])
        except grpc.RpcError as error:
            address = ":".join(os.environ[f"KERASTUNER_ORACLE_{part}"] for part in ("IP", "PORT"))
            raise UserError(f"the chief at {address} does not answer: start it first") from error
        except (kt.errors.FatalError, RuntimeError) as error:
            raise UserError(str(error).splitlines()[0]) from error
        if is_worker():
            return []
        trials = self.oracle.trials.values()
        for trial in trials:
            if trial.score is None:
                raise UserError(f"a trial failed: {(trial.message or '').strip().splitlines()[-1]}")
        return [(dict(trial.hyperparameters.values), trial.score) for trial in trials]


def is_chief() -> bool:
    """Whether keras-tuner's environment variables make this process a chief."""
    shared = "KERASTUNER_ORACLE_IP" in os.environ
    return shared and "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")


def is_worker() -> bool:
    """Whether they make it a worker."""
    return "KERASTUNER_ORACLE_IP" in os.environ and not is_chief()
