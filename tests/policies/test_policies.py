"""Baselines, policy folders and the tokenizer, as an evaluation uses them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.errors import PolicyError
from envs.tokenizer import ByteTokenizer
from policies.baselines import make_baseline
from policies.features import CONTEXT_SAMPLES, LogMel, chunk_windows
from policies.lalm_policy import load_policy, save_policy
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import REPLIES, noise, tiny_model


def observations(audio: np.ndarray) -> dict[str, np.ndarray]:
    return {"audio": audio, "speaking": np.zeros(len(audio), np.int64), "elapsed": np.zeros((len(audio), 1))}


def test_tokenizer_round_trips_any_text(tokenizer: ReplyTokenizer) -> None:
    for text in [*REPLIES, "Zürich, 你好!"]:
        assert tokenizer.decode([*tokenizer.encode(text), tokenizer.end_id]) == text


def test_streaming_features_equal_offline_features() -> None:
    audio, log_mel = torch.from_numpy(noise(3, 5)), LogMel()
    offline = log_mel(chunk_windows(audio))
    tail = torch.zeros(CONTEXT_SAMPLES)
    for index, chunk in enumerate(audio.split(6400)):
        window = torch.cat((tail, chunk))
        torch.testing.assert_close(log_mel(window[None])[0], offline[index], atol=1e-5, rtol=0)
        tail = window[-CONTEXT_SAMPLES:]


@pytest.mark.parametrize(("name", "speaks"), [("silent", False), ("always", True)])
def test_baselines_do_what_their_names_say(name: str, speaks: bool) -> None:
    policy = make_baseline(name, 2, ByteTokenizer(), 16)
    policy.reset(np.ones(2, bool))
    actions = policy.act(observations(np.zeros((2, 6400), np.float32)))
    assert (actions["kind"] == (1 if speaks else 0)).all()


def test_energy_speaks_at_a_rise_in_level_and_not_at_steady_noise() -> None:
    policy = make_baseline("energy", 1, ByteTokenizer(), 64)
    policy.reset(np.ones(1, bool))
    quiet, loud = noise(0, 1)[None] * 0.01, noise(0, 1)[None]
    kinds = [int(policy.act(observations(x))["kind"][0]) for x in (quiet, quiet, loud)]
    assert kinds == [0, 0, 1]


def test_unknown_baseline_is_named() -> None:
    with pytest.raises(PolicyError, match="did you mean 'silent'"):
        make_baseline("silnt", 1, ByteTokenizer(), 16)


def test_every_tensor_of_the_model_is_saved(tokenizer: ReplyTokenizer) -> None:
    """`from_pretrained` leaves a buffer that is not in the file uninitialised: words came out as noise."""
    model = tiny_model(tokenizer)
    held = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    assert held <= set(model.state_dict())


def test_a_saved_policy_does_what_it_did(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer)
    save_policy(tmp_path / "policy", model, tokenizer)
    loaded = load_policy(tmp_path / "policy")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert loaded.tokenizer.encode(REPLIES[0]) == tokenizer.encode(REPLIES[0])


def test_what_is_no_policy_folder_is_refused_in_one_line(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy folder"):
        load_policy(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match=r"it has no config\.json"):
        load_policy(tmp_path)
    folder = tmp_path / "policy"
    save_policy(folder, tiny_model(tokenizer), tokenizer)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(PolicyError, match="format version 99"):
        load_policy(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(PolicyError, match="cannot be read") as error:
        load_policy(folder)
    assert "\n" not in str(error.value)
