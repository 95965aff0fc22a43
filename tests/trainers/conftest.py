"""What tests of PPO begin with: a tokenizer of few replies, and a critic that is fitted in no time."""

import pytest

import trainers.credit
from policies.tokenizer import ReplyTokenizer, train_tokenizer
from tests.policies.conftest import REPLIES


@pytest.fixture(scope="session")
def tokenizer() -> ReplyTokenizer:
    return train_tokenizer(REPLIES, 300)


@pytest.fixture
def hasty_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of fitting: what the critic makes of few streams is not the point."""
    monkeypatch.setattr(trainers.credit, "CRITIC_STEPS", 2)
