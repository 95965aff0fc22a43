"""The LALM as a `Policy`: the engine behind `reset` and `act`; and policy folders."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from envs.episode import RESPOND, TOKENS, WAIT
from envs.errors import PolicyError
from policies.base import Actions, Observations
from policies.configuration_lalm import FORMAT_VERSION, LALMConfig
from policies.engine import Engine
from policies.modeling_lalm import LALM
from policies.session import Sampling, StepEvent
from policies.tokenizer import ReplyTokenizer

_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class LALMPolicy:
    """A LALM over `num_slots` streams at once."""

    def __init__(
        self, model: LALM, tokenizer: ReplyTokenizer, num_slots: int = 1, sampling: Sampling | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.engine = Engine(model, num_slots)
        self.sampling = sampling or Sampling(threshold=0.5)
        self.sessions: list[int | None] = [None] * num_slots
        self.events: list[StepEvent | None] = [None] * num_slots
        self.episodes = 0

    @property
    def tokens_per_chunk(self) -> int:
        """K, the speaking rate."""
        return self.model.layout.tokens_per_chunk

    def reset(self, mask: NDArray[np.bool_]) -> None:
        """Begin new streams where `mask` is True, each with its own seed, whatever the batch."""
        for slot in np.flatnonzero(mask):
            self.retire(int(slot))
            seed = int(np.random.SeedSequence([self.sampling.seed, self.episodes]).generate_state(1)[0])
            self.sessions[slot] = self.engine.open(replace(self.sampling, seed=seed))
            self.episodes += 1

    def retire(self, slot: int) -> None:
        """End the stream of a slot; it waits until it is reset."""
        session = self.sessions[slot]
        if session is not None:
            self.engine.close(session)
            self.sessions[slot] = None
            self.events[slot] = None

    def act(self, observations: Observations) -> Actions:
        """Push one chunk of every stream and step the engine once."""
        slots = {session: slot for slot, session in enumerate(self.sessions) if session is not None}
        for session, slot in slots.items():
            self.engine.push(session, observations["audio"][slot])
        kinds = np.full(len(self.sessions), WAIT, np.int64)
        tokens = np.full((len(self.sessions), self.tokens_per_chunk), self.tokenizer.vocab_size, np.int64)
        for event in self.engine.step():
            slot = slots[event.session]
            self.events[slot] = event
            kinds[slot] = {"silent": WAIT, "response": RESPOND, "speaking": TOKENS}[event.decision]
            tokens[slot, : len(event.token_ids)] = event.token_ids
        return {"kind": kinds, "tokens": tokens}

    @property
    def response_probabilities(self) -> list[float | None]:
        """P(response) of the last step; None in the middle of a reply."""
        return [event.probability if event else None for event in self.events]


def save_policy(folder: Path, model: LALM, tokenizer: ReplyTokenizer) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer aside, then move them into `folder`.

    Raises:
        PolicyError: when they cannot be written (a full disk, no permission); `folder` stays as it was.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        model.save_pretrained(aside)
        tokenizer.hf.save_pretrained(aside)
        folder.mkdir(exist_ok=True)
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    except Exception as error:  # safetensors and tokenizers have errors of their own, of no special kind
        message = f"{folder}: the policy cannot be written: {error}".splitlines()[0]
        raise PolicyError(message) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_policy(folder: Path, num_slots: int = 1, sampling: Sampling | None = None) -> LALMPolicy:
    """Load a policy folder.

    Raises:
        PolicyError: when it is no policy folder, is incomplete or spoilt, or is of another version.
    """
    if not folder.is_dir():
        raise PolicyError(f"{folder}: no such policy folder; train one with `soundflow quickstart`")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise PolicyError(f"{folder}: not a policy folder, it has no {', '.join(missing)}")
    try:
        config = LALMConfig.from_pretrained(folder)
        if config.model_type != LALMConfig.model_type or not config.layout:
            raise PolicyError(f"{folder}/config.json: not a SoundFlow policy (model_type {config.model_type!r})")
        if config.format_version != FORMAT_VERSION:
            raise PolicyError(
                f"{folder}/config.json: format version {config.format_version}, this release reads {FORMAT_VERSION}"
            )
        model, loading = LALM.from_pretrained(folder, config=config, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise PolicyError(f"{folder}: the policy cannot be read: {error}".splitlines()[0]) from error
    wrong = [*loading["missing_keys"], *loading["unexpected_keys"]]
    if wrong:
        raise PolicyError(f"{folder}/model.safetensors: weights do not fit the configuration: {sorted(wrong)[:3]}")
    return LALMPolicy(model, _load_tokenizer(folder, model), num_slots, sampling)


def _load_tokenizer(folder: Path, model: LALM) -> ReplyTokenizer:
    """Load the tokenizer of a policy folder.

    Raises:
        PolicyError: when it is none, or not the one that the model was trained with.
    """
    layout = model.layout
    try:
        tokenizer = ReplyTokenizer.from_pretrained(folder)
        own = tokenizer.layout(
            audio_tokens_per_chunk=layout.audio_tokens_per_chunk,
            tokens_per_chunk=layout.tokens_per_chunk,
            window_chunks=layout.window_chunks,
        )
    except Exception as error:  # tokenizers raises nothing more special
        message = f"{folder}/tokenizer.json: cannot be read: {error}".splitlines()[0]
        raise PolicyError(message) from error
    size = model.text_model.config.vocab_size
    if own != layout or tokenizer.vocab_size != size:
        raise PolicyError(
            f"{folder}/tokenizer.json: {tokenizer.vocab_size} ids that do not fit the model's {size}; it belongs to"
            " another policy"
        )
    return tokenizer
