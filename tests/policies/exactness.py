"""The three exactness rules as checks of any model: they hold at random weights and after training."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from policies.engine import Engine, Sampling, StepEvent
from policies.features import ChunkFeatures, FeatureStream
from policies.modeling_lalm import LALM
from policies.sequences import Turn, collate, lay_out
from tests.policies.conftest import noise

CHUNKS = 30


def play(
    model: LALM, seeds: list[int], late: dict[int, int] | None = None, chunks: int = CHUNKS
) -> dict[int, list[StepEvent]]:
    """Stream noise through the engine, one session a seed; `late` sessions join at a later step."""
    late = late or {}
    engine, names, events = Engine(model, len(seeds)), {}, {seed: [] for seed in seeds}
    for t in range(chunks + max(late.values(), default=0)):
        for seed in seeds:
            if t == late.get(seed, 0):
                names[engine.open(Sampling(None, 1.0, seed))] = seed
        for session, seed in list(names.items()):
            first = (t - late.get(seed, 0)) * 6400
            if first < chunks * 6400:
                engine.push(session, noise(seed, chunks)[first : first + 6400])
        for event in engine.step():
            events[names[event.session]].append(event)
    return events


def turns_of(events: list[StepEvent]) -> list[Turn]:
    turns: list[Turn] = []
    for event in events:
        if event.decision == "speaking":
            turns[-1] = Turn(turns[-1].chunk, (*(turns[-1].reply or ()), *event.token_ids))
        else:
            turns.append(Turn(event.chunk, event.token_ids if event.decision == "response" else None))
    return turns


def check_engine_is_the_training_forward(
    model: LALM, seeds: Sequence[int] = (1, 2, 3), chunks: int = CHUNKS, need_replies: bool = True
) -> None:
    """Log-probabilities of what the engine sampled, decisions and tokens, to 1e-4."""
    for seed, events in play(model, list(seeds), chunks=chunks).items():
        turns = turns_of(events)
        assert not need_replies or any(turn.reply for turn in turns), "the test must see replies"
        sequence = lay_out(model.layout, turns)
        with torch.no_grad():
            samples = torch.from_numpy(noise(seed, chunks)).to(model.device)
            audio = model.encode(model.make_features().whole(samples)).flatten(0, 1)
            batch = collate([sequence], [chunks], model.layout.audio_tokens_per_chunk).to(model.device)
            hidden = model.hidden_states(batch, audio)[0]
            decisions = model.decision_log_probs(hidden[[i - 1 for i in sequence.decisions]]).cpu()
            contents = model.content_log_probs(hidden[[i - 1 for i in sequence.contents]]).cpu()
        took = [int(turn.reply is not None) for turn in turns]
        engine_decisions = [e.log_prob for e in events if e.log_prob is not None]
        np.testing.assert_allclose(decisions[range(len(took)), took], engine_decisions, atol=1e-4)
        tokens = [t for turn in turns for t in turn.reply or ()]
        engine_contents = [p for e in events for p in e.token_log_probs]
        np.testing.assert_allclose(contents[range(len(tokens)), tokens], engine_contents, atol=1e-4)


def check_batched_is_alone(model: LALM, chunks: int = CHUNKS) -> None:
    """Three sessions, one of which joins later, do what each does alone."""
    together = play(model, [1, 2, 3], late={2: 4}, chunks=chunks)
    for seed in (1, 2, 3):
        for mine, alone in zip(together[seed], play(model, [seed], chunks=chunks)[seed], strict=True):
            assert (mine.decision, mine.token_ids, mine.chunk) == (alone.decision, alone.token_ids, alone.chunk)
            np.testing.assert_allclose(mine.token_log_probs, alone.token_log_probs, atol=1e-4)
            assert (mine.probability is None) == (alone.probability is None)
            if mine.probability is not None:
                assert mine.probability == pytest.approx(alone.probability, abs=1e-4)
                assert mine.log_prob == pytest.approx(alone.log_prob, abs=1e-4)


def stream(features: ChunkFeatures, audio: np.ndarray, chunk_samples: int, piece: int) -> torch.Tensor:
    """Push audio in pieces of any size; return the features of all chunks [T, frames, n_mels]."""
    state, heard = FeatureStream(features.context_samples, chunk_samples), []
    for first in range(0, len(audio), piece):
        state.push(audio[first : first + piece])
        windows = state.take()
        if windows:
            heard.append(features(torch.stack(windows), [state] * len(windows)))
    return torch.cat(heard)


def check_streaming_is_offline(features: ChunkFeatures, audio: np.ndarray, chunk_samples: int, piece: int) -> None:
    """Features of pieces of any size are those of the whole audio."""
    offline = features.whole(torch.from_numpy(audio), chunk_samples)
    frames = features.context_frames + chunk_samples // 160
    assert offline.shape == (len(audio) // chunk_samples, frames, features.n_mels)
    torch.testing.assert_close(stream(features, audio, chunk_samples, piece), offline, atol=1e-5, rtol=0)
