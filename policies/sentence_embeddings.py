"""A scorer of replies by meaning: the cosine between a sentence's embedding and those of the references."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from envs.errors import ConfigError, ScoringError, first_line
from envs.rewards.bill import Bill
from envs.rewards.score_book import ScoreBook, score_key, scored
from envs.rewards.scoring import ScoredReply

_MOST_TOKENS = 512  # of a sentence, where the tokenizer does not say


class EmbeddingScorer:
    """Scores a reply by its best cosine with a reference, 0 where that is negative.

    A sentence's embedding is the mean over its tokens of the model's last hidden states (Reimers and Gurevych 2019).
    Models are read from safetensors alone.

    Args:
        model: A local folder, or an id of the hub, of a model that `transformers.AutoModel` reads.
        cache: An SQLite file of scores, made where there is none; several processes may share it.
        batch_size: Texts at a time. With 1, a text's score is the same whatever else is scored; more is faster, and
            lets the others show in the last digits.
        device: Such as "cpu" or "cuda".

    Raises:
        ConfigError: when the model cannot be loaded, or a number is out of range.
        ScoringError: when the cache is no file of scores.
    """

    def __init__(self, model: str, cache: str | None = None, batch_size: int = 1, device: str = "cpu") -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size!r}, expected a whole number from 1 on")
        self.batch_size, self.device = batch_size, device
        self.bill = Bill()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._model = AutoModel.from_pretrained(model, use_safetensors=True, dtype=torch.float32).to(device).eval()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(
                f"{model}: no model of sentences can be loaded from there ({first_line(str(error) or repr(error))});"
                " expected a folder, or an id of the hub, with config.json, a tokenizer and model.safetensors"
            ) from error
        self._book = ScoreBook(None if cache is None else Path(cache))
        self._version = "" if cache is None else _fingerprint(self._model)

    def scores(self, replies: Sequence[ScoredReply]) -> list[float]:
        """Return the cosines.

        Raises:
            ScoringError: when an embedding is no finite vector.
        """
        return scored(replies, self._key, self._score_all, self._book, self.bill)

    def _key(self, reply: ScoredReply) -> str:
        return score_key("embedding", self._version, reply.text, reply.references)

    def _score_all(self, replies: Mapping[str, ScoredReply]) -> Iterator[dict[str, float]]:
        if not replies:
            return
        texts = dict.fromkeys(text for reply in replies.values() for text in (reply.text, *reply.references))
        embeddings = self._embed(list(texts))

        def best(reply: ScoredReply) -> float:
            cosines = [float(embeddings[reply.text] @ embeddings[text]) for text in reply.references]
            return min(max(0.0, *cosines), 1.0)

        yield {key: best(reply) for key, reply in replies.items()}

    @torch.inference_mode()
    def _embed(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return the unit embedding of each text: float32 [hidden]."""
        embeddings: dict[str, Tensor] = {}
        for first in range(0, len(texts), self.batch_size):
            batch = list(texts[first : first + self.batch_size])
            most = min(self._tokenizer.model_max_length, _MOST_TOKENS)
            tokens = self._tokenizer(
                batch, return_tensors="pt", padding=len(batch) > 1, truncation=True, max_length=most
            ).to(self.device)
            states = self._model(**tokens).last_hidden_state  # [B, L, hidden]
            mask = tokens["attention_mask"][:, :, None]
            means = normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1).cpu()
            self.bill.calls += len(batch)
            self.bill.tokens_in += int(mask.sum())
            embeddings.update(zip(batch, means, strict=True))
        for text, embedding in embeddings.items():
            if not embedding.isfinite().all():
                raise ScoringError(f"the embedding of {text!r} is no finite vector; the model's weights are not usable")
        return embeddings


def _fingerprint(model: torch.nn.Module) -> str:
    """Return what tells a model from every other, wherever it was read from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
