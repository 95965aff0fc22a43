"""Who does what in a step: the encoder's side never waits, the decoder drains whole queues on its trigger.

Half duplex is the paper's loop: a session that is silent, or has just ended a reply, drains everything that it has
heard and takes one decision; in the middle of a reply it decodes and leaves its queue alone. In full duplex a session
drains and decides in the middle of a reply too: `response` goes on with it, `silent` cuts it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.engine.session import Session


@dataclass(frozen=True)
class Plan:
    """What the sessions that heard something do: each stands in one of the two lists."""

    decide: list[Session]  # drain, and take one decision
    speak: list[Session]  # go on with a reply


def plan_step(heard: Sequence[Session], full_duplex: bool) -> Plan:
    """Plan one step of the sessions that heard a chunk."""
    decide = [s for s in heard if full_duplex or s.reply is None]
    return Plan(decide, [s for s in heard if not full_duplex and s.reply is not None])
