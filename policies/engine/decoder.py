"""The language model as the engine runs it: new tokens of many sessions, one after another without padding.

The arithmetic is that of `transformers`' Qwen2, as training runs it, over the same modules. What is left out is what
nobody reads: padding, copies of keys for the query heads of a group, and, in the last layer, everything but the keys
and values of tokens after which nothing is predicted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from policies.engine.memory import KVMemory, Pass
from policies.modeling_lalm import LALM, rotate
from policies.token_layout import NO_AUDIO


class Decoder:
    """Runs the layers of a model over a `KVMemory`."""

    def __init__(self, model: LALM, memory: KVMemory) -> None:
        self.memory = memory
        self.embed_tokens = model.text_model.embed_tokens
        self.layers = model.text_model.layers
        self.norm = model.text_model.norm
        self.rotary = model.text_model.rotary_emb
        self.head_dim = self.rotary.head_dim

    def embed(self, ids: Tensor, audio: Tensor, heard: Tensor | None) -> Tensor:
        """Return the embeddings of new tokens [T, hidden].

        Args:
            ids: int64 [T].
            audio: int64 [T] rows of `heard`, or NO_AUDIO.
            heard: [rows, hidden] audio embeddings; None: no token takes one.
        """
        inputs: Tensor = self.embed_tokens(ids)
        return inputs if heard is None else torch.where((audio != NO_AUDIO).unsqueeze(1), heard[audio], inputs)

    def run(self, inputs: Tensor, batch: Pass) -> Tensor:
        """Run new tokens, and write their keys and values into the memory.

        Args:
            inputs: [T, hidden] embeddings of the tokens.
            batch: Where they belong.

        Returns:
            [pieces, hidden] the hidden state of the last token of each piece.
        """
        angles = self.rotary(inputs, batch.position)
        hidden, last = inputs, len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            attention, normed = layer.self_attn, layer.input_layernorm(hidden)
            keys = rotate(self._heads(attention.k_proj(normed)), *angles)
            keys, values = self.memory.write(i, keys, self._heads(attention.v_proj(normed)), batch)
            if i == last:
                hidden, normed = hidden[batch.last], normed[batch.last]
                angles = (angles[0][batch.last], angles[1][batch.last])
            queries = rotate(self._heads(attention.q_proj(normed)), *angles)
            places, mask = (batch.last_places, batch.last_mask) if i == last else (batch.places, batch.mask)
            hidden = hidden + attention.o_proj(_attend(queries, keys, values, places, mask))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        final: Tensor = self.norm(hidden)
        return final

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, self.head_dim))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, places: Tensor | None, mask: Tensor) -> Tensor:
    """Let queries [N, heads, D] look into the memory of their sessions; return [N, heads * D].

    Args:
        queries: Rotated.
        keys: [B, heads / G, K, D] of B sessions.
        values: The same.
        places: int64 [N], where each query stands among the B * L of the mask; None: there are as many, in order.
        mask: [B, L, K], 0 where a query may look and -inf elsewhere.
    """
    (sessions, length, columns), (_, heads, size) = mask.shape, queries.shape
    groups = heads // keys.shape[1]
    padded = queries
    if places is not None:
        padded = queries.new_zeros(sessions * length, heads, size)
        padded[places] = queries
    # The queries of a group stand below each other, so that keys need not be repeated.
    folded = padded.view(sessions, length, -1, groups, size).permute(0, 2, 3, 1, 4).flatten(2, 3)
    if keys.is_cuda:
        bias = mask.to(queries.dtype).repeat(1, groups, 1).unsqueeze(1)
        found = F.scaled_dot_product_attention(folded, keys, values, bias)
    else:  # torch's kernel takes twice as long for so few queries
        scores = (folded @ keys.transpose(-1, -2)).float().view(sessions, -1, groups, length, columns)
        weights = scores.mul_(size**-0.5).add_(mask[:, None, None]).softmax(-1)
        found = weights.to(values.dtype).flatten(2, 3) @ values
    found = found.view(sessions, -1, groups, length, size).permute(0, 3, 1, 2, 4).reshape(-1, heads * size)
    return found if places is None else found[places]
