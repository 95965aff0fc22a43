"""The backbones by name.

All have one kind of language model, a `Qwen2Model`. Voxtral's is a Llama: the same computation without biases on
queries, keys and values, so that a Llama fits as a Qwen2 whose biases are zero, until training moves them. Of
`qwen2-audio` and `voxtral` there are shapes and no conversion: no published weights are read into them.
"""

from envs.errors import PolicyError, did_you_mean
from policies.backbones.base import Backbone
from policies.backbones.compact import COMPACT
from policies.backbones.qwen_omni import QWEN_OMNI
from policies.backbones.whisper_towers import QWEN2_AUDIO, VOXTRAL

BACKBONES = {"compact": COMPACT, "qwen2.5-omni": QWEN_OMNI, "qwen2-audio": QWEN2_AUDIO, "voxtral": VOXTRAL}


def find_backbone(name: str) -> Backbone:
    """Return the backbone of that name.

    Raises:
        PolicyError: when there is none.
    """
    if name not in BACKBONES:
        raise PolicyError(f"there is no backbone {name!r}{did_you_mean(name, BACKBONES)}")
    return BACKBONES[name]
