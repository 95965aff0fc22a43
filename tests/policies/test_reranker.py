"""Rerankers: the sigmoid of one logit a pair, from a folder without pickles."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification
from transformers.models.bert.tokenization_bert import BertTokenizer

from envs.errors import PolicyError
from policies.reranker import MAX_TOKENS, Reranker

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] i hear glass breaking watch out a dog barks".split()


def write_reranker(folder: Path, num_labels: int = 1, bias: float | None = None) -> Path:
    """Save a cross-encoder with random weights; with a bias it gives every pair that logit."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=num_labels,
    )
    model = BertForSequenceClassification(config)
    model.classifier.weight.data.mul_(0.0 if bias is not None else 50.0)
    model.classifier.bias.data.fill_(bias or 0.0)
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def test_a_score_is_the_sigmoid_of_the_pairs_logit(tmp_path: Path) -> None:
    folder = write_reranker(tmp_path)
    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    references = ("watch out", "a dog barks", "i hear glass breaking watch out")
    alone = [
        model.eval()(**tokenizer("i hear glass", one, return_tensors="pt")).logits.sigmoid().item()
        for one in references
    ]
    reranker = Reranker(folder)
    assert reranker.scores("i hear glass", references) == pytest.approx(alone, abs=1e-5)
    assert len({round(score, 3) for score in alone}) > 1
    assert reranker.best("i hear glass", references) == pytest.approx(max(alone), abs=1e-5)


def test_a_pair_that_is_too_long_is_cut(tmp_path: Path) -> None:
    reranker = Reranker(write_reranker(tmp_path))
    assert 0.0 <= reranker.best("glass " * 2 * MAX_TOKENS, ("dog " * MAX_TOKENS,)) <= 1.0


def test_a_folder_that_is_no_rerankers_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none: no such folder; expected a reranker's, or chrf"):
        Reranker(tmp_path / "none")
    with pytest.raises(PolicyError, match=f"{tmp_path}: the reranker cannot be read"):
        Reranker(tmp_path)
    with pytest.raises(PolicyError, match="has 3 logits, expected 1"):
        Reranker(write_reranker(tmp_path / "three", num_labels=3))
