"""A reranker: a cross-encoder that says how well two texts belong together, as a sigmoid in [0, 1]."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from envs.errors import PolicyError, first_line

MAX_TOKENS = 512  # of a pair; what is longer is cut


class Reranker:
    """A sequence classifier with one logit, such as bge-reranker-v2-m3.

    Args:
        folder: Of `transformers`, with safetensors; no code in it is run, no pickle is read.

    Raises:
        PolicyError: when there is no such folder, it cannot be read, or its model has not one logit.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise PolicyError(f"{folder}: no such folder; expected a reranker's, or chrf")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # of no common kind
            raise PolicyError(first_line(f"{folder}: the reranker cannot be read: {error}")) from error
        if model.config.num_labels != 1:
            raise PolicyError(f"{folder}: its model has {model.config.num_labels} logits, expected 1: not a reranker")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device).eval()

    @torch.inference_mode()
    def scores(self, text: str, references: Sequence[str]) -> list[float]:
        """Return how well a text belongs to each reference, in [0, 1]."""
        pairs = [text] * len(references), list(references)
        longest = min(MAX_TOKENS, self.tokenizer.model_max_length)
        encoded = self.tokenizer(*pairs, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        logits = self.model(**encoded.to(self.device)).logits  # [references, 1]
        return [float(score) for score in logits.float().sigmoid()[:, 0]]

    def best(self, text: str, references: tuple[str, ...]) -> float:
        """Return the best of the scores."""
        return max(self.scores(text, references))
