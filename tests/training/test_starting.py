import pytest
import torch
from torch import Tensor, nn

from liverseg.network import UNet
from liverseg.training import start_from, weights_in


def small(**changes: int) -> UNet:
    torch.manual_seed(changes.pop("seed", 0))
    return UNet(**{"in_channels": 1, "num_classes": 1, "depth": 1, "width": 2} | changes)


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "module.net.", "_orig_mod."])
@pytest.mark.parametrize("place", [None, "state_dict", "network_weights", "model"])
def test_weights_are_found_wherever_a_tool_keeps_them(prefix: str, place: str | None) -> None:
    there, here = small(seed=1), small(seed=2)
    state = {prefix + name: value for name, value in there.state_dict().items()}
    content = {place: state, "epoch": 3, "lr": torch.tensor(0.1)} if place else state
    lines = start_from(here, weights_in(content))
    assert lines == [f"{len(state)} of {len(state)} weights taken"]
    for name, value in here.state_dict().items():
        assert torch.equal(value, there.state_dict()[name])


def test_what_does_not_fit_keeps_its_own_and_is_told_in_a_line_each() -> None:
    there, here = small(seed=1), small(seed=2, in_channels=3, num_classes=4)
    before = {name: value.clone() for name, value in here.state_dict().items()}
    state = {**there.state_dict(), "head.bias": torch.zeros(7)}
    del state["decoder.0.enlarge.bias"]
    lines = start_from(here, state)
    assert lines == [
        f"{len(before) - 4} of {len(before)} weights taken",
        "encoder.0.layers.0.weight is [2, 1, 3, 3] there and [2, 3, 3, 3] here: it starts anew",
        "decoder.0.enlarge.bias is not there and [2] here: it starts anew",
        "classify.weight is [1, 2, 1, 1] there and [4, 2, 1, 1] here: it starts anew",
        "classify.bias is [1] there and [4] here: it starts anew",
        "head.bias [7] is not in the network: left out",
    ]
    anew = {line.split()[0] for line in lines[1:-1]}
    for name, value in here.state_dict().items():
        assert torch.equal(value, before[name] if name in anew else there.state_dict()[name])


def test_weights_of_which_none_fits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"none of its 2 weights fits one of UNet by name and sh"):
        start_from(small(), nn.Linear(3, 4).state_dict())


def test_weights_of_another_width_are_refused_by_their_shape() -> None:
    narrow, wide = (UNet(in_channels=1, num_classes=1, depth=1, width=one) for one in (2, 4))
    sentence = (
        r"has its shape in UNet: classify\.weight is \[1, 2, 1, 1\] there and \[1, 4, 1, 1\] "
    )
    state = {name: one for name, one in narrow.state_dict().items() if name != "classify.bias"}
    with pytest.raises(ValueError, match=sentence):
        start_from(wide, state)


@pytest.mark.parametrize("content", [[], 3, {}, {"state_dict": {}}, {"epoch": 3}, {"model": [1]}])
def test_a_file_without_weights_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="it holds no weights by name"):
        weights_in(content)


def test_another_number_format_is_taken_as_the_network_has_it() -> None:
    here = small(seed=2)
    state: dict[str, Tensor] = {
        name: value.double() for name, value in small(seed=1).state_dict().items()
    }
    start_from(here, state)
    assert {value.dtype for value in here.parameters()} == {torch.float32}
