"""What a GPU has to do as a CPU does it. `SOUNDFLOW_TEST_GPU=1 uv run pytest` lets tests see the machine's GPUs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from policies.device import pick_device
from policies.engine import Engine, Sampling
from policies.engine.cuda_graphs import GraphRecorder
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.policy_folder import write_policy
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from tests.policies.conftest import noise, sharpened, tiny_compact, tiny_model
from tests.policies.exactness import check_batched_is_alone, check_engine_is_the_training_forward, play

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")
GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def tokenizer() -> ReplyTokenizer:
    return train_tokenizer(["a sound that nobody has to understand"], 512)


@pytest.mark.parametrize("window_chunks", [64, 6], ids=["whole stream", "with eviction"])
def test_the_engine_is_the_training_forward(tokenizer: ReplyTokenizer, window_chunks: int) -> None:
    check_engine_is_the_training_forward(tiny_model(tokenizer, window_chunks).to(GPU))


def test_a_batch_equals_each_session_alone_behind_sinks_too(tokenizer: ReplyTokenizer) -> None:
    check_batched_is_alone(tiny_model(tokenizer, 6).to(GPU))
    torch.manual_seed(0)
    check_batched_is_alone(sharpened(LALM(tiny_compact(tokenizer, 6, 1))).to(GPU))


def test_it_does_what_a_cpu_does(tokenizer: ReplyTokenizer) -> None:
    on_cpu, on_gpu = (play(tiny_model(tokenizer, 6).to(device), [1, 2, 3]) for device in ("cpu", GPU))
    for seed, events in on_cpu.items():
        assert [(e.decision, e.token_ids) for e in on_gpu[seed]] == [(e.decision, e.token_ids) for e in events]


def test_bfloat16_decides_like_float32(tokenizer: ReplyTokenizer) -> None:
    probabilities = []
    for dtype in (torch.float32, torch.bfloat16):
        engine = Engine(tiny_model(tokenizer, 6).to(GPU, dtype))
        session = engine.open(Sampling(threshold=2.0))
        heard = noise(1, 20)
        for first in range(0, len(heard), 6400):
            engine.push(session, heard[first : first + 6400])
            probabilities += [event.probability for event in engine.step()]
    whole, rounded = np.split(np.array(probabilities), 2)
    np.testing.assert_allclose(rounded, whole, atol=0.05)


def test_a_graph_is_launched_again_over_new_inputs() -> None:
    inputs, found = torch.zeros(3, device=GPU), torch.zeros(3, device=GPU)
    replay = GraphRecorder(GPU)(lambda: found.copy_(2 * inputs))
    for value in (1.0, 2.0):
        inputs.fill_(value)
        replay()
        assert found.tolist() == [2 * value] * 3


def test_a_policy_goes_where_it_is_asked_to(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    write_policy(tmp_path / "policy", tiny_model(tokenizer), tokenizer)
    assert pick_device().type == "cuda"
    assert LALMPolicy.from_pretrained(tmp_path / "policy").model.device.type == "cuda"
    assert LALMPolicy.from_pretrained(tmp_path / "policy", device="cpu").model.device.type == "cpu"
