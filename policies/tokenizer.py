"""A policy's tokenizer, saved with it: trained on replies, or a pretrained one with control tokens."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from envs.errors import PolicyError
from policies.token_layout import SPECIAL_TOKENS, TokenLayout


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "ReplyTokenizer":
    """Train a byte-level BPE tokenizer of at most `vocab_size` ids, special tokens first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return ReplyTokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>"))


def with_control_tokens(tokenizer: PreTrainedTokenizerBase) -> "ReplyTokenizer":
    """Return a copy of a pretrained tokenizer that has the special tokens of the layout after its own ids.

    Raises:
        PolicyError: when its ids are not 0, 1, 2, ... or it has one of those tokens already.
    """
    if set(tokenizer.get_vocab().values()) != set(range(len(tokenizer))):
        raise PolicyError(f"the tokenizer has {len(tokenizer)} ids that are not 0 to {len(tokenizer) - 1}")
    taken = sorted(tokenizer.get_vocab().keys() & set(SPECIAL_TOKENS))
    if taken:
        raise PolicyError(f"the tokenizer has control tokens already: {', '.join(taken)}")
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.add_special_tokens(list(SPECIAL_TOKENS))
    return ReplyTokenizer(PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>"))


class ReplyTokenizer:
    """A `transformers` tokenizer seen as what an environment and the engine need (`envs.tokenizer.TextTokenizer`)."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.hf = tokenizer
        self._special = set(self.hf.convert_tokens_to_ids(list(SPECIAL_TOKENS)))

    @classmethod
    def from_pretrained(cls, folder: Path) -> "ReplyTokenizer":
        """Load the tokenizer saved in a policy folder."""
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        for key in ("is_local", "local_files_only"):  # how it was found, which `save_pretrained` would write down
            tokenizer.init_kwargs.pop(key, None)
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self.hf)

    @property
    def end_id(self) -> int:
        """The id that ends a reply."""
        return int(self.hf.convert_tokens_to_ids("<end>"))

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without the end token."""
        return list(self.hf.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; special tokens, the end token among them, and padding give no text."""
        kept = [int(i) for i in ids if 0 <= i < self.vocab_size and int(i) not in self._special]
        return str(self.hf.decode(kept, skip_special_tokens=True))  # a pretrained one has some of its own

    def layout(
        self, *, audio_tokens_per_chunk: int, tokens_per_chunk: int, window_chunks: int, sink_chunks: int = 0
    ) -> TokenLayout:
        """Return the token layout over this tokenizer's ids."""
        ids = {name.strip("<>"): int(self.hf.convert_tokens_to_ids(name)) for name in SPECIAL_TOKENS}
        return TokenLayout(
            **ids,
            audio_tokens_per_chunk=audio_tokens_per_chunk,
            tokens_per_chunk=tokens_per_chunk,
            window_chunks=window_chunks,
            sink_chunks=sink_chunks,
        )
