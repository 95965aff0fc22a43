"""Checkpoints: what was saved comes back bit by bit, and one that is spoilt is passed over, by name and reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from envs.errors import CheckpointError
from trainers.checkpoints import (
    Checkpoint,
    load_module,
    load_optimizer,
    load_random,
    module_tensors,
    newest_checkpoint,
    optimizer_state,
    random_tensors,
    read_checkpoint,
    save_checkpoint,
)

CONFIG = {"seed": 3, "stages": ["format"], "format": {"steps": 5, "learning_rate": 1e-3}}
Captured = pytest.CaptureFixture[str]


def save(folder: Path, step: int, keep: int = 9) -> Path:
    return save_checkpoint(folder, step, {"weight": torch.full((4,), float(step))}, {"at": step}, CONFIG, keep)


def newest(folder: Path) -> Checkpoint:
    checkpoint = newest_checkpoint(folder, CONFIG)
    assert checkpoint is not None
    return checkpoint


class Net(nn.Module):
    """Has what models have: a tied weight, a buffer that is no float, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.dropout(self.norm(self.first(x)), 0.5))


def test_training_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """Weights, buffers, moments of AdamW and the draws of dropout: all as if there had been no interruption."""

    def make() -> tuple[Net, torch.optim.Optimizer]:
        net = Net()
        return net, torch.optim.AdamW(net.parameters(), 1e-2, betas=(0.9, 0.95))

    def learn(net: Net, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    net, optimizer = make()
    learn(net, optimizer, 3)
    tensors, groups = optimizer_state(optimizer, "optimizer")
    everything = {**module_tensors(net, "net"), **tensors, **random_tensors("random")}
    save_checkpoint(tmp_path, 3, everything, {"groups": groups}, CONFIG, 1)
    learn(net, optimizer, 3)

    torch.manual_seed(1)
    again, optimizer = make()
    checkpoint = newest(tmp_path)
    load_module(again, checkpoint, "net")
    load_optimizer(optimizer, checkpoint, "optimizer", checkpoint.state["groups"])
    load_random(checkpoint, "random")
    learn(again, optimizer, 3)
    for (name, one), other in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert again.last.weight is again.first.weight


def truncate(path: Path) -> None:
    whole = (path / "tensors.safetensors").read_bytes()
    (path / "tensors.safetensors").write_bytes(whole[:-3])


def flip(path: Path) -> None:
    whole = (path / "tensors.safetensors").read_bytes()
    (path / "tensors.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def rewrite(key: str, value: object) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        document = json.loads((path / "state.json").read_text())
        document[key] = value
        (path / "state.json").write_text(json.dumps(document))

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tensors": (lambda path: (path / "tensors.safetensors").unlink(), "it has no tensors.safetensors"),
    "no state": (lambda path: (path / "state.json").unlink(), "it has no state.json"),
    "truncated tensors": (truncate, "tensors.safetensors: cannot be read"),
    "changed tensors": (flip, "is not what was written"),
    "empty tensors": (lambda path: (path / "tensors.safetensors").write_bytes(b""), "cannot be read"),
    "truncated state": (lambda path: (path / "state.json").write_text('{"step"'), "state.json: cannot be read"),
    "no object": (lambda path: (path / "state.json").write_text("[]"), "expected an object with config, format"),
    "format": (rewrite("format", 7), "format is 7, this version reads 1"),
    "config": (rewrite("config", {**CONFIG, "format": {"steps": 6}}), "format.learning_rate is None and not 0.001"),
    "tensors of another": (rewrite("names", ["bias"]), "are not those of state.json"),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_checkpoint_is_passed_over_by_name(
    spoil: Callable[[Path], object], said: str, tmp_path: Path, capsys: Captured
) -> None:
    save(tmp_path, 10)
    last = save(tmp_path, 20)
    spoil(last)
    checkpoint = newest(tmp_path)
    assert (checkpoint.step, checkpoint.state) == (10, {"at": 10})
    assert torch.equal(checkpoint.tensors["weight"], torch.full((4,), 10.0))
    (line,) = capsys.readouterr().err.splitlines()
    assert str(last) in line
    assert said in line


def test_there_may_be_none(tmp_path: Path, capsys: Captured) -> None:
    assert newest_checkpoint(tmp_path / "not there", CONFIG) is None
    truncate(save(tmp_path, 10))
    assert newest_checkpoint(tmp_path, CONFIG) is None
    assert "step-00000010" in capsys.readouterr().err


def test_the_last_few_are_kept_and_nothing_lies_beside_them(tmp_path: Path) -> None:
    """What a killed run left aside goes; a spoilt one from later on takes no good one's place, and is replaced."""
    (tmp_path / ".step-00000009.123").mkdir(parents=True)
    truncate(save(tmp_path, 60))
    for step in (10, 20, 30, 40):
        save(tmp_path, step, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000030", "step-00000040", "step-00000060"]
    save(tmp_path, 60, keep=2)
    assert newest(tmp_path).step == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000040", "step-00000060"]


def test_one_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="step-00000010"):
        save(tmp_path / "file", 10)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "new", 10, {"weight": torch.zeros(2)}, {"no": {"json"}}, CONFIG, 1)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_checkpoint_of_another_shape_does_not_fit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, module_tensors(nn.Linear(2, 3), "net"), {}, CONFIG, 1)
    checkpoint = read_checkpoint(tmp_path / "step-00000001", CONFIG)
    with pytest.raises(CheckpointError, match=r"net\.weight"):
        load_module(nn.Linear(3, 3), checkpoint, "net")
    with pytest.raises(CheckpointError, match=r"net\.bias"):
        load_module(nn.Linear(2, 3, bias=False), checkpoint, "net")


def test_checkpoints_hold_no_pickles(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "tensors.safetensors"]
