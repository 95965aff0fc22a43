"""Adapters change nothing until they are trained, are all that is trained, and are merged into a plain policy."""

from pathlib import Path

import pytest
import torch

from envs.errors import PolicyError
from policies.lalm_policy import LALMPolicy
from policies.lora import add_lora, merge_lora, train_only
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.sequences import Turn, collate, lay_out
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model


def hidden(model: LALM) -> torch.Tensor:
    batch = collate([lay_out(model.layout, [Turn(1, None), Turn(3, (260, model.layout.end))])], [4], 10)
    audio = model.encode(model.make_features().whole(torch.from_numpy(noise(2, 4)))).flatten(0, 1)
    return model.hidden_states(batch, audio)


def test_adapters_are_trained_alone_and_merged(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer, backbone="qwen2.5-omni")
    names, before = list(model.state_dict()), hidden(model).detach()
    base = {name: tensor.clone() for name, tensor in model.text_model.state_dict().items()}
    add_lora(model, 2)
    torch.testing.assert_close(hidden(model), before, atol=1e-6, rtol=0)
    trained = [p for p in model.text_model.parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 7  # A and B of seven projections in two layers
    assert [name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name] == []
    train_only(model, ("projector", "lm_head", "text_model"))
    freed = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name}
    assert freed == {"projector", "lm_head"}
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):  # B is zero at first, and A has no gradient
        optimizer.zero_grad()
        hidden(model)[..., 0].sum().backward()
        optimizer.step()
    after = hidden(model).detach()
    assert (after - before).abs().max() > 1e-3
    merge_lora(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(hidden(model).detach(), after, atol=1e-4, rtol=0)
    changed = {name for name, tensor in model.text_model.state_dict().items() if not torch.equal(tensor, base[name])}
    assert {name.split(".")[-2] for name in changed} == {
        f"{p}_proj" for p in ("q", "k", "v", "o", "gate", "up", "down")
    }
    write_policy(tmp_path / "policy", model, tokenizer)
    torch.testing.assert_close(
        hidden(LALMPolicy.from_pretrained(tmp_path / "policy", device="cpu").model).detach(), after, atol=1e-4, rtol=0
    )


def test_a_rank_below_one_is_refused(tokenizer: ReplyTokenizer) -> None:
    with pytest.raises(PolicyError, match="rank of adapters is 0"):
        add_lora(tiny_model(tokenizer), 0)
