"""Offline answers: a whole clip and an instruction in, a text out, by the engine that streams.

A session of the engine hears the clip in one step, under the mode token `offline` and after its instruction, and has to
respond; nothing limits how fast it writes (`policies.token_layout` has the layout). What a turn says does not depend on
which others are answered with it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from envs.audio import check_samples
from envs.clock import CHUNK_S, CHUNK_SAMPLES
from envs.errors import AudioError, PolicyError
from envs.scenario import Audio
from policies.engine import Engine, Sampling, SimulatedClock
from policies.engine.engine import MOST_WAITING_S
from policies.modeling_lalm import LALM
from policies.token_layout import TokenLayout

NUM_SLOTS = 16


def offline_layout(layout: TokenLayout, num_chunks: int, instruction_tokens: int = 0) -> TokenLayout:
    """Return the layout of an offline turn: its mode, and a window that holds a whole clip.

    Args:
        layout: The model's.
        num_chunks: Of the clip.
        instruction_tokens: For which the window has to have room, too.
    """
    room = -(-instruction_tokens // (layout.audio_tokens_per_chunk + 2))
    return replace(layout, online=layout.offline, window_chunks=num_chunks + room, sink_chunks=0)


def answer_ids(
    model: LALM,
    clips: Sequence[Audio],
    instructions: Sequence[Sequence[int]],
    num_slots: int = NUM_SLOTS,
    sampling: Sampling | None = None,
) -> list[tuple[int, ...]]:
    """Return the reply to each clip: token ids with the end token, at most the model's `max_reply_tokens`.

    Args:
        model: Is set to evaluation.
        clips: Floats [n] in [-1, 1], mono, 16 kHz; the last chunk is filled up with silence.
        instructions: Token ids, one sequence a clip; empty: none, as in the samples of `trainers.samples`.
        num_slots: Turns at once; those of like length are answered together.
        sampling: How replies are written; default: the most likely token each time. A turn is always answered.

    Raises:
        PolicyError: when there are not as many instructions as clips, or there is to be no slot.
        AudioError: when a clip is empty, longer than two minutes, or cannot be used; nothing is answered then.
        SessionError: when the model fails.
    """
    if len(clips) != len(instructions):
        raise PolicyError(f"there are {len(clips)} clips and {len(instructions)} instructions, expected one for each")
    if num_slots < 1:
        raise PolicyError(f"num_slots is {num_slots}, expected at least 1")
    heard = [_whole_chunks(clip, f"clips[{i}]") for i, clip in enumerate(clips)]
    chosen = replace(sampling or Sampling(), threshold=0.0, unhurried=True)
    order = sorted(range(len(heard)), key=lambda i: len(heard[i]))
    replies: list[tuple[int, ...]] = [()] * len(heard)
    for first in range(0, len(order), num_slots):
        batch = order[first : first + num_slots]
        longest = max(len(instructions[i]) for i in batch)
        layout = offline_layout(model.layout, len(heard[batch[-1]]) // CHUNK_SAMPLES, longest)
        engine = Engine(model, len(batch), clock=SimulatedClock(), layout=layout)
        turns = {engine.open(replace(chosen, seed=chosen.seed + i), instructions[i]): i for i in batch}
        for session, i in turns.items():
            engine.push(session, heard[i])
        for event in engine.step():
            if event.error is not None:
                raise event.error
            replies[turns[event.session]] = event.token_ids
    return replies


def _whole_chunks(clip: Audio, name: str) -> Audio:
    """Return a clip that was checked, filled up to whole chunks."""
    samples = check_samples(clip, name)
    if not len(samples):
        raise AudioError(f"{name}: is empty, expected a clip with something to hear")
    padded = np.pad(samples, (0, -len(samples) % CHUNK_SAMPLES))
    if (seconds := len(padded) / CHUNK_SAMPLES * CHUNK_S) > MOST_WAITING_S:
        raise AudioError(f"{name}: lasts {seconds:.1f} s, expected at most {MOST_WAITING_S:.0f} s; cut it")
    return padded
