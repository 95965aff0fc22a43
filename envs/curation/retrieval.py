"""Finding clips by their captions: TF-IDF (Salton and Buckley 1988) over stemmed words."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.sources import Candidate

TOP = 3
_STOP_WORDS = frozenset(
    "a an and are as at be by for from in into is it its of on or that the their there to with".split()
)
_ENDINGS = re.compile(r"(?<=\w{3})(?:ing|ed|es|s)$")


class TfidfIndex:
    """Captions, ranked against a query by the cosine of their TF-IDF vectors.

    >>> TfidfIndex(["a dog barks", "a kettle whistles"]).search("whistling kettles", top=1)
    [(1, 1.0)]
    """

    def __init__(self, captions: Sequence[str]) -> None:
        self.size = len(captions)
        counts = [Counter(words(caption)) for caption in captions]
        occurs = Counter(word for count in counts for word in count)
        self._idf = {word: math.log((1 + self.size) / (1 + number)) + 1 for word, number in occurs.items()}
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, count in enumerate(counts):
            for word, weight in self._vector(count).items():
                postings[word].append((index, weight))
        self._postings = {
            word: (np.array([i for i, _ in p]), np.array([w for _, w in p])) for word, p in postings.items()
        }

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return the cosine of every caption with the query, in [0, 1]: [captions]."""
        total = np.zeros(self.size)
        for word, weight in self._vector(Counter(words(query))).items():
            indexes, weights = self._postings[word]
            total[indexes] += weight * weights
        return np.minimum(total, 1.0)

    def search(self, query: str, top: int = TOP) -> list[tuple[int, float]]:
        """Return the indexes of the best captions with their scores, best first; the earlier wins a tie."""
        scores = np.round(self.scores(query), 9)  # a tie is a tie, whatever order the words were added in
        best = np.argsort(-scores, kind="stable")[:top]
        return [(int(i), float(scores[i])) for i in best]

    def _vector(self, counts: Counter[str]) -> dict[str, float]:
        """Return the unit vector of a text's known words."""
        weights = {word: (1 + math.log(n)) * self._idf[word] for word, n in counts.items() if word in self._idf}
        norm = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {word: weight / norm for word, weight in weights.items()}


def words(text: str) -> list[str]:
    """Return the stems of a text's words, without those that every caption has.

    >>> words("The babies are crying")
    ['babi', 'cri']
    """
    return [_stem(word) for word in re.findall(r"[^\W_]+", text.lower()) if word not in _STOP_WORDS]


def _stem(word: str) -> str:
    stem = _ENDINGS.sub("", word)
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz" and stem != word:
        stem = stem[:-1]  # dripping, drips
    stem = stem.removesuffix("e") if len(stem) > 3 else stem  # whistle, whistling
    return f"{stem[:-1]}i" if len(stem) > 2 and stem.endswith("y") else stem  # cry, cries


class CandidateIndex:
    """What a source can play, found by caption and label.

    Candidates of the same words are one entry: of forty clips that are captioned alike, any three are the top three.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        groups: dict[tuple[str, str, str], list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            groups[candidate.label, candidate.caption, candidate.decision].append(candidate)
        self.groups = list(groups.values())
        self._index = TfidfIndex([f"{group[0].label} {group[0].caption}" for group in self.groups])

    def search(self, query: str, rng: np.random.Generator, top: int = TOP) -> list[tuple[Candidate, float]]:
        """Return the best candidates with their scores; the generator chooses among those of the same words."""
        found: list[tuple[Candidate, float]] = []
        for index, score in self._index.search(query, top):
            group = self.groups[index]
            found += [(group[i], score) for i in rng.permutation(len(group))[: top - len(found)]]
        return found

    def ranked(self, query: str) -> list[tuple[Candidate, float]]:
        """Return the first candidate of every entry with its score, best first."""
        return [(self.groups[i][0], score) for i, score in self._index.search(query, len(self.groups))]
