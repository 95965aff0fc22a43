"""The LALM as a `Policy`: the engine behind `reset` and `act`, from a policy folder and into one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from envs.audio import check_samples
from envs.clock import CHUNK_SAMPLES
from envs.episode import RESPOND, TOKENS, WAIT
from envs.errors import AudioError, SessionError
from envs.scenario import Audio
from policies.base import Actions, Observations
from policies.device import AUTO, pick_device
from policies.engine import Clock, Engine, Sampling, SimulatedClock, StepEvent
from policies.modeling_lalm import LALM
from policies.offline import NUM_SLOTS, answer_ids
from policies.policy_folder import find_policy, push_policy, read_policy, write_policy
from policies.tokenizer import ReplyTokenizer


class LALMPolicy:
    """A LALM over `num_slots` streams at once.

    Attributes:
        card: The model card that it was loaded with and is saved with; None: it has none.
    """

    def __init__(
        self,
        model: LALM,
        tokenizer: ReplyTokenizer,
        num_slots: int = 1,
        sampling: Sampling | None = None,
        card: str | None = None,
        full_duplex: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.model, self.tokenizer, self.card = model, tokenizer, card
        self.engine = Engine(model, num_slots, full_duplex=full_duplex, clock=clock or SimulatedClock())
        self.sampling = sampling or Sampling()
        self.sessions: list[int | None] = [None] * num_slots
        self.events: list[StepEvent | None] = [None] * num_slots
        self.episodes = 0

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        num_slots: int = 1,
        sampling: Sampling | None = None,
        *,
        revision: str | None = None,
        full_duplex: bool = False,
        clock: Clock | None = None,
        device: str | torch.device = AUTO,
    ) -> "LALMPolicy":
        """Load a policy folder.

        Args:
            source: A folder; a string that names none may be an id of the hub, "name/policy".
            num_slots: Streams at once.
            sampling: How it decides and writes.
            revision: Branch, tag or commit on the hub.
            full_duplex: Decide in the middle of replies too.
            clock: Of its engine; default: the stream's, where nothing takes time.
            device: Such as "cpu" or "cuda:1"; default: a GPU where there is one.

        Raises:
            PolicyError: when there is no such device or folder, or the folder is incomplete or spoilt, of another
                version, or its tensors do not fit; it says which.
        """
        place = pick_device(device)
        model, tokenizer, card = read_policy(find_policy(source, revision))
        return cls(model.to(place), tokenizer, num_slots, sampling, card, full_duplex, clock)

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write a policy folder; it appears under its files' names when it is whole.

        Args:
            folder: Is made where it is not there.
            card: The model card; None: the one it was loaded with, or one that says that nothing was measured. Who
                has trained it on gives a new one.

        Raises:
            PolicyError: when it cannot be written; `folder` stays as it was.
        """
        write_policy(Path(folder), self.model, self.tokenizer, card or self.card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        card: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to the hub, in one commit; return the commit's address.

        Args:
            repo_id: "name/policy"; it is made where it is not there.
            card: As in `save_pretrained`.
            private: Whether a repository that is made is private; None: as its owner's default.
            token: Of the hub; None: the one of `hf auth login` or of the variable HF_TOKEN.
            revision: The branch to commit to; None: main.

        Raises:
            PolicyError: when the hub refuses or cannot be reached.
        """
        chosen = card or self.card
        return push_policy(self.model, self.tokenizer, chosen, repo_id, private=private, token=token, revision=revision)

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
        """Push one chunk of every stream and step the engine once.

        Raises:
            AudioError: when the chunks are not float32 [num_slots, 6400] in [-1, 1]; no stream has heard any then.
            SessionError: when the model fails; the slots it failed in wait until they are reset.
        """
        slots = {session: slot for slot, session in enumerate(self.sessions) if session is not None}
        chunks = self._chunks(observations)
        for session, slot in slots.items():
            self.engine.push(session, chunks[slot])
        kinds = np.full(len(self.sessions), WAIT, np.int64)
        tokens = np.full((len(self.sessions), self.tokens_per_chunk), self.tokenizer.vocab_size, np.int64)
        failed: SessionError | None = None
        for event in self.engine.step():
            slot = slots[event.session]
            if event.error is not None:
                self.sessions[slot] = self.events[slot] = None
                failed = failed or event.error
                continue
            self.events[slot] = event
            kinds[slot] = {"silent": WAIT, "response": RESPOND, "speaking": TOKENS}[event.decision]
            tokens[slot, : len(event.token_ids)] = event.token_ids
        if failed is not None:
            raise failed
        return {"kind": kinds, "tokens": tokens}

    def _chunks(self, observations: Observations) -> dict[int, Audio]:
        """Return the chunk of every slot that has a stream, all of them checked.

        Raises:
            AudioError: naming the slot whose chunk cannot be used.
        """
        if "audio" not in observations:
            raise AudioError(
                f"the observations hold {', '.join(map(repr, observations)) or 'nothing'}, expected 'audio'"
            )
        audio, expected = np.asarray(observations["audio"]), (len(self.sessions), CHUNK_SAMPLES)
        if audio.shape != expected:
            raise AudioError(
                f"observations['audio'] has the shape {list(audio.shape)}, expected {list(expected)}: one chunk a slot"
            )
        active = [slot for slot, session in enumerate(self.sessions) if session is not None]
        if audio.dtype == np.float32 and audio.min() >= -1.0 and audio.max() <= 1.0:  # not where there is a NaN
            return {slot: audio[slot] for slot in active}
        return {slot: check_samples(audio[slot], f"observations['audio'][{slot}]") for slot in active}

    def answer(self, clips: Sequence[Audio], instructions: Sequence[str], num_slots: int = NUM_SLOTS) -> list[str]:
        """Answer whole clips offline, greedily: no stream, no decision; see `policies.offline`.

        Args:
            clips: Floats [n] in [-1, 1], mono, 16 kHz, of any lengths.
            instructions: What is asked of each, as text; blank: nothing.
            num_slots: Answered at once.

        Raises:
            PolicyError: when there are not as many instructions as clips.
            AudioError: when a clip is empty, longer than two minutes, or cannot be used.
            SessionError: when the model fails.
        """
        ids = [self.tokenizer.encode(text) for text in instructions]
        sampling = replace(self.sampling, temperature=0.0)
        return [self.tokenizer.decode(reply) for reply in answer_ids(self.model, clips, ids, num_slots, sampling)]

    @property
    def response_probabilities(self) -> list[float | None]:
        """P(response) of the last step; None in the middle of a reply."""
        return [event.probability if event else None for event in self.events]
