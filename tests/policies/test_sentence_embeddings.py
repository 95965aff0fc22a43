"""The scorer by meaning, with a tiny model of random weights in a local folder."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from envs.errors import ConfigError, ScoringError
from envs.rewards import reward_from_config
from envs.rewards.scoring import ScoredReply
from policies.sentence_embeddings import EmbeddingScorer

WORDS = "a beep is heard there dog barks far away now".split()
REFERENCES = ("a beep is heard", "there is a beep")


def write_model(folder: Path, seed: int = 0) -> str:
    torch.manual_seed(seed)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(WORDS) + 2, max_position_embeddings=64, **size)).save_pretrained(folder)
    words = Tokenizer(WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("embeddings"))


def reply(text: str) -> ScoredReply:
    return ScoredReply(text, REFERENCES, (), "beep")


def test_the_score_is_the_best_cosine_of_mean_states(model: str) -> None:
    network, tokenizer = AutoModel.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)

    def embed(text: str) -> torch.Tensor:
        with torch.no_grad():
            return network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)

    text = "a dog barks far away"
    best = max(float(torch.cosine_similarity(embed(text), embed(r), dim=0)) for r in REFERENCES)
    scorer = EmbeddingScorer(model)
    same, other = scorer.scores([reply(REFERENCES[1]), reply(text)])
    assert same == pytest.approx(1.0, abs=1e-6)
    assert other == pytest.approx(best, abs=1e-6)
    assert other < 0.999
    assert (scorer.bill.scored, scorer.bill.calls, scorer.bill.tokens_in) == (2, 3, 4 + 4 + 5)  # each text once


def test_what_else_is_scored_does_not_show(model: str) -> None:
    texts = ["a dog barks", "a beep is heard now far away", "there", "a beep"]
    together = EmbeddingScorer(model).scores([reply(text) for text in texts])
    assert together == [EmbeddingScorer(model).scores([reply(text)])[0] for text in texts]
    batched = EmbeddingScorer(model, batch_size=4).scores([reply(text) for text in texts])
    assert batched == pytest.approx(together, abs=1e-5)


def test_the_cache_belongs_to_the_weights(model: str, tmp_path: Path) -> None:
    cache = str(tmp_path / "scores.sqlite")
    (first,) = EmbeddingScorer(model, cache).scores([reply("a dog barks")])
    again = EmbeddingScorer(model, cache)
    assert again.scores([reply("a dog barks")]) == [first]
    assert (again.bill.cached, again.bill.calls) == (1, 0)
    other = EmbeddingScorer(write_model(tmp_path / "other", seed=1), cache)
    assert other.scores([reply("a dog barks")]) != [first]
    assert other.bill.cached == 0


def test_a_run_names_it_by_its_import_path(model: str) -> None:
    scorer = {"class": "policies.sentence_embeddings:EmbeddingScorer", "args": {"model": model}}
    reward = reward_from_config([{"name": "helpfulness", "args": {"scorer": scorer}}])
    assert reward.bills["helpfulness"].calls == 0
    scorer["args"] = {"model": model, "batch_size": 0}
    with pytest.raises(ConfigError, match="batch_size is 0, expected a whole number from 1"):
        reward_from_config([{"name": "helpfulness", "args": {"scorer": scorer}}])


def test_a_folder_without_a_model_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model of sentences can be loaded") as error:
        EmbeddingScorer(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_that_are_no_numbers_are_an_error_and_no_score(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    network = AutoModel.from_pretrained(folder)
    network.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    network.save_pretrained(folder)
    with pytest.raises(ScoringError, match="the embedding of 'a beep' is no finite vector"):
        EmbeddingScorer(folder).scores([reply("a beep")])
