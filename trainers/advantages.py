"""What a decision or a word was worth beyond expectation, from the rewards of episodes alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.abilities import ABILITIES
from envs.trace import Reply, Trace
from trainers.rollouts import Rollout

_ABILITY_OF = {sub_task: name for name, ability in ABILITIES.items() for sub_task in ability.sub_tasks}


def decision_advantages(
    rewards: Tensor, values: Tensor, chunks: Tensor, end: int, last_value: float, gamma: float, gae_lambda: float
) -> Tensor:
    """Return generalised advantages over decisions (Schulman et al. 2016), discounted by elapsed chunks.

    A decision to respond is an option that lasts as long as its reply (Sutton et al. 1999): what it earns counts at
    once, what follows is discounted by the chunks it took.

    Args:
        rewards: float32 [D], what each decision earned until the next.
        values: float32 [D], predicted before each decision.
        chunks: int64 [D], when each decision was taken.
        end: The chunk after the last one that was played.
        last_value: Value of going on then: 0 at termination, the bootstrap at truncation.
        gamma: Discount a chunk.
        gae_lambda: Trace decay a chunk.

    Returns:
        float32 [D].
    """
    result = torch.zeros_like(rewards)
    running, following = 0.0, last_value
    for i in range(len(rewards) - 1, -1, -1):
        elapsed = (int(chunks[i + 1]) if i + 1 < len(rewards) else end) - int(chunks[i])
        discount = gamma**elapsed
        delta = float(rewards[i]) + discount * following - float(values[i])
        running = delta + discount * gae_lambda**elapsed * running
        result[i], following = running, float(values[i])
    return result


def content_advantages(rollouts: Sequence[Rollout], max_reply_tokens: int) -> Tensor:
    """Return what each reply token's text earned above the mean of its kind, over their deviation: float32 [A - D].

    Replies that answer a cue of one ability are one kind, false alarms another: whether a reply was called for is the
    decision's merit, a transcript is harder than a warning, and the words must not be praised or blamed for it. The end
    of a reply of `max_reply_tokens` was not chosen: it has 0. So have the words of a reply that a time limit cut:
    nobody has judged them.
    """
    earned, kinds, forced = list[float](), list[str | None](), list[bool]()
    for rollout in rollouts:
        replies, kind, said = iter(rollout.trace.replies), None, 0
        for is_decision, reward in zip(rollout.is_decision, rollout.text_reward, strict=True):
            said = 0 if is_decision else said + 1
            if said == 1:
                kind = _kind(next(replies), rollout.trace)
            if said:
                earned.append(reward)
                kinds.append(kind)
                forced.append(said == max_reply_tokens)
    rewards = torch.tensor(earned)
    result = torch.zeros_like(rewards)
    for one in dict.fromkeys(kind for kind in kinds if kind is not None):
        own = torch.tensor([kind == one for kind in kinds])
        result[own] = rewards[own] - rewards[own].mean()
    if len(result):
        result /= result.square().mean().sqrt() + 1e-6
    return result.masked_fill(torch.tensor(forced, dtype=torch.bool), 0.0)


def _kind(reply: Reply, trace: Trace) -> str | None:
    """Return what a reply is compared with: the ability whose cue it answered, or "" of false alarms; None: nothing."""
    if reply.end_s is None:
        return None
    return "" if reply.cue is None else _ABILITY_OF.get(trace.cues[reply.cue].sub_task, trace.ability)


def group_advantages(group: Sequence[Rollout], gamma: float) -> Tensor:
    """Return group-relative advantages of decisions (Shao et al. 2024, section 4.1): float32 [D], in the group's order.

    The group's episodes are of one scenario. A decision is credited with what its episode earned from then on, less
    what the group's episodes earned from that chunk on in the mean, over the deviation of these differences. All of
    them hear the same at that chunk, so the group is the critic; the return of the whole episode, as for an answer of
    text, would blame every one of fifty decisions for each.

    Args:
        group: Episodes of one scenario.
        gamma: Discount a chunk.
    """
    to_go = torch.zeros(len(group), 1 + max(len(rollout.trace.steps) for rollout in group), dtype=torch.float64)
    for own, rollout in zip(to_go, group, strict=True):
        for chunk in range(len(rollout.trace.steps) - 1, -1, -1):
            own[chunk] = rollout.trace.steps[chunk].reward + gamma * own[chunk + 1]
    above = to_go - to_go.mean(dim=0)
    result = torch.cat([own[rollout.decision_chunks] for own, rollout in zip(above, group, strict=True)])
    return (result / (result.square().mean().sqrt() + 1e-6)).float()
