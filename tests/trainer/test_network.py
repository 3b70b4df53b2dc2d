import numpy as np
import pytest
import tensorflow as tf

from training.trainer import network
from training.trainer.config import Config


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.5])
def test_one_cycle_rises_to_the_learning_rate_and_then_falls_to_zero(warmup):
    config = Config(epochs=2, learning_rate=0.01, warmup=warmup)
    optimizer = network.optimizer(config, steps=50)

    rate = tf.keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    rates = np.array([rate(step) for step in range(101)])
    peak = max(1, int(100 * warmup))
    assert rates[0] == pytest.approx(0.01 / 25)
    assert rates.argmax() == peak
    assert rates[peak] == pytest.approx(0.01)
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[100] == pytest.approx(0, abs=1e-6)
