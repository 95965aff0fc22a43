"""What is said of tensors that do not fit: all of it, in a line that can be read."""

import pytest

from envs.errors import PolicyError
from policies.checkpoint_tensors import check_tensors, lalm_shapes
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import TINY, tiny_model


@pytest.mark.parametrize("backbone", list(TINY))
def test_the_shapes_are_those_of_the_model(tokenizer: ReplyTokenizer, backbone: str) -> None:
    model = tiny_model(tokenizer, backbone=backbone)
    assert lalm_shapes(model.config) == {name: tuple(t.shape) for name, t in model.state_dict().items()}


def test_layers_of_a_kind_are_one_entry_and_none_is_left_out() -> None:
    expected = {f"layers.{n}.q.weight": (4, 4) for n in range(30)} | {"norm.weight": (4,)}
    expected = {f"model.{name}": shape for name, shape in expected.items()}
    found = dict(expected)
    for n in (0, 1, 2, 7, 28, 29):
        del found[f"model.layers.{n}.q.weight"]
    for n in (10, 11):
        found[f"model.layers.{n}.q.weight"] = (4, 5)
    found["model.layers.12.q.weight"] = (5, 4)
    found |= {f"talker.{n}.weight": (1,) for n in range(2)} | {"head": (1,)}
    with pytest.raises(PolicyError) as error:
        check_tensors(expected, found, "a folder")
    assert str(error.value) == (
        "a folder: tensors do not fit: 6 missing: model.layers.{0-2,7,28-29}.q.weight;"
        " 3 unexpected: head, talker.{0-1}.weight;"
        " 3 of another shape: model.layers.12.q.weight [5, 4], not [4, 4],"
        " model.layers.{10-11}.q.weight [4, 5], not [4, 4]"
    )
    check_tensors(expected, expected, "a folder")
