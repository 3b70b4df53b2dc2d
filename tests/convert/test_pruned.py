"""Pruned networks convert as others do: `convert` verifies, and other images agree too."""

import pytest

from larq_seresnet.convert import convert
from larq_seresnet.models import SEResNet14
from larq_seresnet.prune import prune


@pytest.mark.parametrize("target", ["lce", "litert"])
@pytest.mark.parametrize("activations", ["float", "binary"])
def test_a_pruned_network(network, pictures, agrees, activations, target, sizes):
    model = network(width=16, activations=activations)
    pruned = prune(model, pictures, threshold=0.5)
    assert pruned.count_params() < 0.9 * model.count_params()

    file = convert(pruned, target, images=pictures[:100])

    agrees(file, pruned, target, pictures[100:], deviating=1 if activations == "binary" else 0)
    whole = convert(model, target, images=pictures[:100])
    assert sizes(file).packed_weights < sizes(whole).packed_weights
    assert sizes(file).other_weights == 0


@pytest.mark.slow
def test_a_pruned_float_network(calibrated, pictures, agrees):
    model = calibrated(SEResNet14(width=8, fmb=True))
    pruned = prune(model, pictures, threshold=0.5)
    file = convert(pruned, "litert", images=pictures[:100])
    agrees(file, pruned, "litert", pictures[100:])
    assert len(file) < len(convert(model, "litert", images=pictures[:100]))
