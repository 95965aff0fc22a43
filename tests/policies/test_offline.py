"""Offline answers are what training's forward would say, token by token, whoever else is answered."""

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.errors import AudioError, PolicyError
from policies.engine import Sampling
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.offline import answer_ids, offline_layout
from policies.sequences import Turn, collate, lay_out
from policies.tokenizer import ReplyTokenizer
from tests.policies.conftest import noise, tiny_model
from trainers.samples import SampleMaker

CLIPS = [noise(1, 3), noise(2, 9), noise(3, 9)[:-2_000], noise(4, 1)[:900], noise(5, 12)]
ASKED = ["", "What is that?", "Transcribe the speech.", "What is that?", ""]


def argmax_loop(model: LALM, clip: np.ndarray, instruction: list[int]) -> tuple[int, ...]:
    """Write a reply with one whole forward pass a token, over the layout that samples are made with."""
    padded = np.pad(clip, (0, -len(clip) % 6400))
    chunks, reply = len(padded) // 6400, list[int]()
    layout = offline_layout(model.layout, chunks)
    with torch.no_grad():
        audio = model.encode(model.make_features().whole(torch.from_numpy(padded))).flatten(0, 1)
        while len(reply) < model.config.max_reply_tokens - 1:
            sequence = lay_out(layout, [Turn(chunks - 1, tuple(reply))], instruction)
            hidden = model.hidden_states(collate([sequence], [chunks], layout.audio_tokens_per_chunk), audio)
            reply.append(int(model.content_log_probs(hidden[0, -1]).argmax()))
            if reply[-1] == layout.end:
                return tuple(reply)
    return (*reply, layout.end)  # the limit ends it


@pytest.mark.parametrize("backbone", ["compact", "qwen2.5-omni"])
@pytest.mark.parametrize("window_chunks", [64, 5], ids=["wide", "narrower than the clips"])
def test_greedy_answers_are_an_argmax_loop_over_the_training_forward(
    tokenizer: ReplyTokenizer, backbone: str, window_chunks: int
) -> None:
    model = tiny_model(tokenizer, window_chunks, seed=3, backbone=backbone)
    ids = [tokenizer.encode(text) for text in ASKED]
    expected = [argmax_loop(model, clip, own) for clip, own in zip(CLIPS, ids, strict=True)]
    assert len(set(expected)) == len(expected), "the test must see replies that differ"
    assert answer_ids(model, CLIPS, ids) == expected
    assert answer_ids(model, CLIPS, ids, num_slots=2) == expected
    assert [answer_ids(model, [clip], [own])[0] for clip, own in zip(CLIPS, ids, strict=True)] == expected


def test_a_turn_without_an_instruction_is_laid_out_as_the_training_samples_are(tokenizer: ReplyTokenizer) -> None:
    from envs.stream_env import default_scenarios

    model = tiny_model(tokenizer)
    maker, scenario = SampleMaker(tokenizer, model.layout, model.make_features()), default_scenarios()(0)
    sound = maker.sounds(scenario, maker.stream(scenario))[0]
    reply = [sound.sequence.columns.ids[i] for i in sound.sequence.contents]
    chunks = len(sound.log_mel)
    turn = lay_out(offline_layout(model.layout, chunks), [Turn(chunks - 1, tuple(reply))])
    assert turn.columns == sound.sequence.columns
    assert turn.columns.ids[0] == model.layout.offline


def test_an_instruction_changes_the_answer_and_is_heard_before_the_clip(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer, seed=3)
    ids = tokenizer.encode("What is that?")
    columns = lay_out(offline_layout(model.layout, 2), [Turn(1, None)], ids).columns
    assert columns.ids[: 3 + len(ids)] == [model.layout.offline, model.layout.english, *ids, model.layout.audio_begin]
    assert answer_ids(model, CLIPS[:1], [ids]) != answer_ids(model, CLIPS[:1], [()])


def test_a_policy_answers_in_words_and_its_streams_stay(tokenizer: ReplyTokenizer, tmp_path: Path) -> None:
    model = tiny_model(tokenizer, seed=3)
    LALMPolicy(model, tokenizer).save_pretrained(tmp_path)
    policy = LALMPolicy.from_pretrained(tmp_path, sampling=Sampling(temperature=1.0))
    policy.reset(np.ones(1, bool))
    said = policy.answer(CLIPS, ASKED)
    loops = [argmax_loop(model, clip, tokenizer.encode(text)) for clip, text in zip(CLIPS, ASKED, strict=True)]
    assert said == [tokenizer.decode(reply) for reply in loops]
    assert len(policy.engine.sessions) == 1
    assert policy.answer([], []) == []


def test_clips_that_cannot_be_answered_are_named(tokenizer: ReplyTokenizer) -> None:
    model = tiny_model(tokenizer)
    for clip, reason in (
        (np.zeros(0, np.float32), r"clips\[1\]: is empty"),
        (np.full(6400, np.nan, np.float32), r"clips\[1\]: sample 0 is nan"),
        (np.zeros(301 * 6400, np.float32), r"clips\[1\]: lasts 120\.4 s, expected at most 120 s"),
    ):
        with pytest.raises(AudioError, match=reason):
            answer_ids(model, [noise(0, 1), clip], [(), ()])
    with pytest.raises(PolicyError, match="2 clips and 1 instructions"):
        answer_ids(model, CLIPS[:2], [()])
