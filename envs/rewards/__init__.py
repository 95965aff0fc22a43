"""The reward: a list of named, weighted components, each a small pure class over the trace so far.

A run's YAML lists them; a user's own class is named by its import path:

    reward:
      - {name: latency, weight: 1.0}
      - {name: brevity, weight: 0.2, class: "my_rewards:Brevity", args: {limit: 6}}
"""

from envs.rewards.components import (
    COMPONENTS,
    FalseAlarm,
    Helpfulness,
    InvalidAction,
    Latency,
    Miss,
    Overlap,
    Premature,
    Repetition,
    Verbosity,
)
from envs.rewards.configuration import reward_from_config
from envs.rewards.moment import Moment, RewardComponent
from envs.rewards.reward import Reward

__all__ = [
    "COMPONENTS",
    "FalseAlarm",
    "Helpfulness",
    "InvalidAction",
    "Latency",
    "Miss",
    "Moment",
    "Overlap",
    "Premature",
    "Repetition",
    "Reward",
    "RewardComponent",
    "Verbosity",
    "reward_from_config",
]
