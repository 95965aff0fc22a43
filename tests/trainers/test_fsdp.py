"""Two processes that hold half of every layer each compute what one process computes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from envs.errors import PolicyError
from policies.fsdp import layer_classes, wrap_policy
from policies.lora import add_lora, train_only
from policies.modeling_lalm import LALM
from policies.sequences import Turn, lay_out
from policies.tokenizer import train_tokenizer
from tests.policies.conftest import REPLIES, noise, tiny_model
from tests.trainers.two_processes import PROCESSES, meet, run_processes
from trainers.losses import DualLoss
from trainers.samples import Collator, SampleBatch, StreamSample

TRAINED = ("projector", "text_model", "lm_head")
CASES = {  # by name: backbone, what is trained, whether by adapters
    "compact": ("compact", TRAINED, False),
    "qwen2.5-omni": ("qwen2.5-omni", ("encoder", *TRAINED), False),
    "qwen2.5-omni, adapters": ("qwen2.5-omni", TRAINED, True),
}


def loss_of(case: str) -> DualLoss:
    backbone, trained, adapted = CASES[case]
    model = tiny_model(train_tokenizer(REPLIES, 300), backbone=backbone)
    if adapted:
        torch.manual_seed(1)
        add_lora(model, 2)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # zero at first, so that A would have no gradient
                torch.nn.init.normal_(parameter)
    return DualLoss(train_only(model, trained).train(), stream_weight=1.0)


def batch_of(model: LALM, process: int) -> SampleBatch:
    """Each process has a stream of its own, of another length."""
    chunks = 4 + process
    features = model.make_features().whole(torch.from_numpy(noise(process, chunks)))
    turns = [Turn(1, None), Turn(chunks - 1, (260, 261, model.layout.end))]
    return Collator(model.layout)([StreamSample(features, lay_out(model.layout, turns))])


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    return {
        name: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
        for name, p in loss.named_parameters()
        if p.grad is not None
    }


def work(process: int, folder: Path) -> None:
    """One process: all cases, one after the other."""
    torch.set_num_threads(1)
    meet(process, folder)
    mesh = distributed.init_device_mesh("cpu", (PROCESSES,))
    for case in CASES:
        loss = loss_of(case)
        batch = batch_of(loss.model, process)
        wrap_policy(loss, mesh)
        assert all(isinstance(parameter, DTensor) for parameter in loss.parameters())
        value = loss(batch)
        value.backward()
        found = {"loss": value.detach(), **gradients(loss)}
        torch.save(found, folder / f"{case} {process}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes found."""
    path = tmp_path_factory.mktemp("processes")
    run_processes(work, path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_two_processes_compute_what_one_does(folder: Path, case: str) -> None:
    loss = loss_of(case)
    alone = [loss(batch_of(loss.model, process)) for process in range(PROCESSES)]
    (sum(alone) / PROCESSES).backward()
    expected = gradients(loss)
    assert any("layers.1" in name for name in expected)
    for process, value in enumerate(alone):
        found = torch.load(folder / f"{case} {process}")
        torch.testing.assert_close(found.pop("loss"), value.detach(), atol=1e-5, rtol=1e-5)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def test_each_backbone_names_its_layers() -> None:
    tokenizer = train_tokenizer(REPLIES, 300)
    compact, omni = (tiny_model(tokenizer, backbone=name) for name in ("compact", "qwen2.5-omni"))
    assert layer_classes(DualLoss(compact, 1.0)) == ["Qwen2DecoderLayer"]
    assert layer_classes(omni) == ["Qwen2DecoderLayer", "Qwen2_5OmniAudioEncoderLayer"]
    with pytest.raises(PolicyError, match="no LALM in a Linear"):
        layer_classes(nn.Linear(1, 1))
