"""The backbones by name."""

from envs.errors import PolicyError, did_you_mean
from policies.backbones.base import Backbone
from policies.backbones.compact import COMPACT
from policies.backbones.qwen_omni import QWEN_OMNI

BACKBONES = {"compact": COMPACT, "qwen2.5-omni": QWEN_OMNI}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises:
        PolicyError: when there is none.
    """
    if name not in BACKBONES:
        raise PolicyError(f"there is no backbone {name!r}{did_you_mean(name, BACKBONES)}")
    return BACKBONES[name]
