"""Corpora on disk: shards of FLAC and JSON Lines, written in parallel, read as environments and as datasets."""

from envs.corpus.layout import CorpusSpec
from envs.corpus.reader import Corpus, as_dataset
from envs.corpus.summary import Summary, summarise
from envs.corpus.writer import write_corpus

__all__ = ["Corpus", "CorpusSpec", "Summary", "as_dataset", "summarise", "write_corpus"]
