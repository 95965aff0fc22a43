"""Episodes for PPO: the engine plays the vector environment; every action token is kept with what it earned.

An action token is a control token (the binary decision after a run of chunks) or a reply token. Rewards are dense and
stand where they were earned: all of a step's with the latest decision, and what a reply's text earned also with each of
its tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from envs.rewards import Reward
from envs.scenario import Scenario
from envs.trace import Trace
from envs.vector_env import StreamingAudioVectorEnv
from policies.engine import Sampling, StepEvent
from policies.lalm_policy import LALMPolicy
from policies.modeling_lalm import LALM
from policies.sequences import Turn
from policies.tokenizer import ReplyTokenizer


@dataclass
class Rollout:
    """One episode as the policy lived it. Lists over action tokens are in the order of emission."""

    trace: Trace
    turns: list[Turn] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)  # [N, hidden] a chunk, from the frozen encoder
    is_decision: list[bool] = field(default_factory=list)
    chunk: list[int] = field(default_factory=list)  # when the token was emitted
    log_prob: list[float] = field(default_factory=list)  # as sampled
    probability: list[float] = field(default_factory=list)  # P(response) of each decision
    reward: list[float] = field(default_factory=list)  # of a decision, until the next; 0 for reply tokens
    text_reward: list[float] = field(default_factory=list)  # of a reply token: what its reply's text earned
    truncated: bool = False
    _open: list[int] | None = None  # tokens of the reply being said
    _opened: int = 0

    @property
    def decision_chunks(self) -> list[int]:
        """When its decisions were taken: [D]."""
        return [chunk for chunk, is_decision in zip(self.chunk, self.is_decision, strict=True) if is_decision]

    @property
    def decision_rewards(self) -> Tensor:
        """What each decision earned until the next: float32 [D]."""
        return torch.tensor([r for r, is_decision in zip(self.reward, self.is_decision, strict=True) if is_decision])

    @property
    def choices(self) -> Tensor:
        """What its decisions were, 1 for a response: int64 [D]."""
        return torch.tensor([int(turn.reply is not None) for turn in self.turns])  # each decision begins a turn

    @property
    def decision_policy(self) -> Tensor:
        """Probabilities of (silence, response) that its decisions were sampled with: float32 [D, 2]."""
        return torch.tensor([[1.0 - p, p] for p in self.probability])

    def add_event(self, event: StepEvent, embeddings: Tensor) -> None:
        """Take in what the policy did in one step."""
        self.embeddings.append(embeddings)
        if event.log_prob is not None and event.probability is not None:
            self.probability.append(event.probability)
            self._add(True, event.chunk, event.log_prob)
            if event.decision == "response":
                self._open, self._opened = [], event.chunk
            else:
                self.turns.append(Turn(event.chunk, None))
        for token, log_prob in zip(event.token_ids, event.token_log_probs, strict=True):
            self._add(False, event.chunk, log_prob)
            if self._open is not None:
                self._open.append(token)
        if event.reply_ended:
            self.close_reply()

    def close_reply(self) -> None:
        """Note the reply as a turn, when it ended or when the stream did."""
        if self._open is not None:
            self.turns.append(Turn(self._opened, tuple(self._open)))
            self._open = None

    def add_rewards(self, earned: float, by_words: float) -> None:
        """Give what a step earned, and what of it a reply's words did, to the tokens that earned them."""
        latest = len(self.is_decision) - 1
        while latest > 0 and not self.is_decision[latest]:
            self.text_reward[latest] += by_words
            latest -= 1
        self.reward[latest] += earned

    def _add(self, is_decision: bool, chunk: int, log_prob: float) -> None:
        self.is_decision.append(is_decision)
        self.chunk.append(chunk)
        self.log_prob.append(log_prob)
        self.reward.append(0.0)
        self.text_reward.append(0.0)


def collect(
    model: LALM,
    tokenizer: ReplyTokenizer,
    scenarios: Callable[[int], Scenario],
    seeds: Sequence[int],
    reward: Reward,
    sampling_seed: int,
    first_episode: int = 0,
    episode_chunks: int | None = None,
) -> list[Rollout]:
    """Play one episode for each seed with sampled decisions and tokens, all in one batch.

    Episode i draws from a generator of (`sampling_seed`, `first_episode` + i): a batch may be played in parts. One that
    is not over after `episode_chunks` is cut there, and marked as truncated; None: all are played to their end.
    """
    policy = LALMPolicy(model, tokenizer, len(seeds), Sampling(None, 1.0, sampling_seed))
    policy.episodes = first_episode
    env = StreamingAudioVectorEnv(
        len(seeds),
        scenarios=scenarios,
        tokenizer=tokenizer,
        tokens_per_chunk=policy.tokens_per_chunk,
        reward=reward,
        autoreset=False,
    )
    observations, _ = env.reset(options={"scenario_seeds": list(seeds)})
    policy.reset(np.ones(len(seeds), bool))
    rollouts = [Rollout(trace) for trace in env.traces]
    playing, heard = list(range(len(seeds))), 0
    while playing:
        actions = policy.act(observations)
        for slot in playing:
            event = policy.events[slot]
            if event is not None and event.embeddings is not None:
                rollouts[slot].add_event(event, event.embeddings)
        observations, rewards, terminated, _, infos = env.step(actions)
        heard += 1
        parts = infos["reward"]
        earned = np.any([rewards, *parts.values()], axis=0)  # in most steps nothing was
        cut = heard == episode_chunks
        for slot in playing:
            if earned[slot]:
                by_words = sum(float(values[slot]) for name, values in parts.items() if name in reward.of_text)
                rollouts[slot].add_rewards(float(rewards[slot]), by_words)
            if terminated[slot] or cut:
                rollouts[slot].close_reply()
                rollouts[slot].truncated = not terminated[slot]
                policy.retire(slot)
        playing = [slot for slot in playing if not terminated[slot] and not cut]
    for rollout, trace in zip(rollouts, env.traces, strict=True):  # which now know of the steps that were left out
        rollout.trace = trace
    return rollouts
