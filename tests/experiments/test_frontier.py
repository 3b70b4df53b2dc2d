import pandas as pd
import pytest

from larq_seresnet import pretrained
from larq_seresnet.convert import graph
from larq_seresnet.models import SEResNet14, SEResNet14Bin
from training.experiments import frontier
from training.trainer import data


@pytest.fixture
def network(tmp_path):
    def save(model):
        path = tmp_path / f"{model.name}.npz"
        pretrained.save(path, model, {"dataset": "digits", "test_error": 90.0})
        return str(path)

    return save


def test_each_network_has_a_row_for_each_of_its_files(network, tmp_path):
    names = [network(SEResNet14(width=4)), network(SEResNet14Bin(width=8))]
    out = tmp_path / "out"
    flags = ["--dataset", "digits", "--images", "20", "--calibration", "5", "--runs", "2"]

    frontier.main([*flags, "--out", str(out), "--networks", *names])

    table = pd.read_csv(out / "frontier.csv").set_index("kind")
    with_bits = ["1-bit weights", "1-bit weights, int8 activations"]
    assert list(table.index) == ["float32", "int8", *with_bits]
    assert list(table.width) == [4, 4, 8, 8]
    assert table.bytes["int8"] < table.bytes["float32"]
    assert (table.median_ms > 0).all()
    assert f"| {table.bytes['int8']:,} |" in (out / "README.md").read_text()
    assert (out / "frontier.png").stat().st_size > 5000


@pytest.mark.parametrize("activations", ["float", "binary"])
def test_networks_without_fmb_are_points_of_their_own(activations, network):
    model = SEResNet14Bin(width=4, fmb=False, activations=activations)
    images = data.load("digits").train[0][:5]
    found = [kind for kind, *_ in frontier.files(network(model), "digits", images)]

    kinds = ["fully binary"] if activations == "binary" else list(frontier.LINES)[:2]
    assert found == [f"{kind}, without FMB" for kind in kinds]
    columns = ["kind", "width", "bytes", "median_ms", "error"]
    table = pd.DataFrame([(kind, 4, 1000, 1.0, 50.0) for kind in found], columns=columns)
    drawn = frontier.draw(table, "digits").axes[0].get_legend_handles_labels()[1]
    assert drawn == found


def test_int8_has_no_float_inside(network):
    images = data.load("digits").train[0][:5]
    (_, *_), (kind, width, file) = frontier.files(network(SEResNet14(width=4)), "digits", images)

    assert (kind, width) == ("int8", 4)
    operators = graph.parse(file).operators
    inner = [x for x in operators if x.name not in ("QUANTIZE", "DEQUANTIZE")]
    assert len(inner) > 50
    assert {tensor.type for x in inner for tensor in x.outputs} == {graph.TensorType.INT8}


def test_networks_of_another_data_set_are_refused():
    with pytest.raises(SystemExit, match="has learned svhn_cropped, not digits"):
        frontier.main(["--dataset", "digits", "--networks", "seresnet14_bin-svhn_cropped"])


def test_a_data_set_that_no_network_has_learned():
    with pytest.raises(SystemExit, match="no pretrained network of digits: say --networks"):
        frontier.main(["--dataset", "digits"])


@pytest.mark.parametrize("name", ["--runs", "--calibration", "--images"])
def test_a_count_of_none_is_refused(name, capsys):
    with pytest.raises(SystemExit):
        frontier.main([name, "0"])
    assert f"{name} must be at least 1" in capsys.readouterr().err
