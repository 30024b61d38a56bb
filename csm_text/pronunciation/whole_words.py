"""The letter-to-sound model that reads whole words: a beam search over the costs of a network and of n-grams.

The n-gram model (letters.py) sees the last six graphones and no letter ahead; the network (network.py) sees the whole
word. Both have the same graphones. A word gets exactly one primary stress, as 99 % of the dictionary's words have. All
costs are integers, and of equal costs the first is taken, so every machine finds the same phones.
"""

from __future__ import annotations

import numpy as np

from csm_text.pronunciation.letters import START, LetterModel
from csm_text.pronunciation.network import Network

BEAM = 10  # hypotheses after each letter
WRONG_STRESS = 1 << 14  # the cost of a second primary stress, or of none: more than any word costs


class WholeWordModel:
    """Predicts a word's phones from its letters, a to z only. Threads may share it."""

    def __init__(self, network: Network, ngrams: LetterModel) -> None:
        """Raises: ValueError if the two were not made of the same graphones."""
        if network.graphones != ngrams.graphones:
            raise ValueError("the network and the n-grams of the letter model have different graphones")
        self._network, self._ngrams = network, ngrams

    def phones(self, letters: str) -> tuple[str, ...]:
        """The phones, with a vowel's stress as in CMUdict. letters: a to z, at least one."""
        network, ngrams = self._network, self._ngrams
        weight = network.ngram_weight
        costs = np.zeros(1, np.int64)
        past = np.full((1, network.remembered), START)
        after_stress = np.zeros(1, np.int64)
        contexts: list[tuple[int, ...]] = [(START,)]
        said: list[tuple[int, ...]] = [()]
        for row, letter in zip(network.read(letters), letters, strict=True):
            after = [ngrams.after(letter, context) for context in contexts]
            added = network.costs(row, past, after_stress, letter)
            first, last = network.of_letter[letter]
            twice = after_stress[:, None] & network.stressed[first:last]
            ngram_costs = np.array([costs for costs, _ in after])
            totals = costs[:, None] + added + weight * ngram_costs + WRONG_STRESS * twice
            best = totals.ravel().argsort(kind="stable")[:BEAM]
            costs = totals.ravel()[best]
            parents, candidates = np.divmod(best, totals.shape[1])
            graphones = candidates + first
            past = np.concatenate([graphones[:, None], past[parents, :-1]], axis=1)
            after_stress = after_stress[parents] | network.stressed[graphones]
            chosen = list(zip(parents.tolist(), candidates.tolist(), graphones.tolist(), strict=True))
            contexts = [after[parent][1][candidate] for parent, candidate, _ in chosen]
            said = [(*said[parent], graphone) for parent, _, graphone in chosen]
        last_costs = np.array([ngrams.after("", context)[0][0] for context in contexts])
        ended = costs + weight * last_costs + WRONG_STRESS * (1 - after_stress)
        return tuple(phone for graphone in said[int(ended.argmin())] for phone in network.graphones[graphone][1])
