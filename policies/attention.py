"""Grouped-query attention that repeats no keys: the queries of a group stand below each other instead.

`transformers` copies every key and value once for each query head of its group before it calls torch; over the engine's
memory that copy costs more than the attention. The numbers are the same.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

GROUPED = "soundflow_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend (a function of `transformers.AttentionInterface`).

    Args:
        module: Unused.
        query: [B, heads, L, D].
        key: [B, heads / G, K, D].
        value: [B, heads / G, K, D].
        attention_mask: bool [B, 1, L, K], True where a query may look; None: everywhere.
        dropout: Of the weights.
        scaling: Of the scores; None: 1 / sqrt(D).

    Returns:
        [B, L, heads, D], and no weights.
    """
    batch, heads, length, size = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    folded = query.reshape(batch, kv_heads, groups * length, size)
    mask = None if attention_mask is None else attention_mask.repeat(1, 1, groups, 1)
    output = F.scaled_dot_product_attention(folded, key, value, mask, dropout, scale=scaling)
    return output.reshape(batch, heads, length, size).transpose(1, 2), None


AttentionInterface.register(GROUPED, grouped_attention)
