"""Heteronyms: words whose pronunciation depends on their use, and words whose first CMUdict entry is a rare one.

The previous word decides whether a heteronym is a noun or a verb; otherwise the more common pronunciation is used. The
rule knows no other grammar and is sometimes wrong ("I read it yesterday").
"""

from __future__ import annotations

from csm_text.symbols import VOWELS

Phones = tuple[str, ...]

BEFORE_NOUNS = frozenset(
    "the a an this that these those my your his her its our their whose no some any every each another of new old"
    " first last in on with for from by".split()
)
BEFORE_VERBS = frozenset(
    "to will would can could shall should must may might do does did don't doesn't didn't won't can't cannot i you we"
    " they who not never please let's i'll you'll we'll they'll i'd you'd we'd they'd and".split()
)
BEFORE_PARTICIPLES = frozenset(
    "have has had having haven't hasn't hadn't i've you've we've they've was were is are be been being he's she's it's"
    " wasn't weren't isn't aren't already just".split()
)
BEFORE_ADJECTIVES = frozenset(
    "so too very is are was were be been get gets got as how more quite pretty that's it's a the came come comes"
    " stay".split()
)

# The default pronunciation, in place of the dictionary's first.
PREFERRED = {
    "to": "T AH0",  # unlike "two" and "too"
    "and": "AE1 N D",
    "were": "W ER0",
    "thirty": "TH ER1 D IY0",
    "read": "R IY1 D",
    "live": "L IH1 V",
    "lead": "L IY1 D",
    "leads": "L IY1 D Z",
    "wind": "W IH1 N D",
    "close": "K L OW1 Z",
    "use": "Y UW1 Z",
    "uses": "Y UW1 Z AH0 Z",
    "perfect": "P ER1 F IH2 K T",
    "record": "R EH1 K ER0 D",
    "records": "R EH1 K ER0 D Z",
    "subject": "S AH1 B JH IH0 K T",
    "sometimes": "S AH1 M T AY2 M Z",
    "something": "S AH1 M TH IH0 NG",
    "separate": "S EH1 P ER0 IH0 T",
    "update": "AH1 P D EY2 T",
    "increase": "IH1 N K R IY2 S",
    "transport": "T R AE1 N S P AO0 R T",
    "transfer": "T R AE1 N S F ER0",
    "survey": "S ER1 V EY2",
    "impact": "IH1 M P AE0 K T",
    "research": "R IY1 S ER0 CH",
    "re": "R IY1",
    "ca": "K AA1",
    "de": "D EY1",
    "id": "IH1 D",
    "everyday": "EH1 V R IY0 D EY1",
    "wound": "W UW1 N D",
    "wounds": "W UW1 N D Z",
    "tears": "T IH1 R Z",
    "buffet": "B AH0 F EY1",
    "putting": "P UH1 T IH0 NG",
    "coupon": "K UW1 P AA2 N",
    "coupons": "K UW1 P AA2 N Z",
    "escort": "EH1 S K AO0 R T",
    "essay": "EH1 S EY2",
    "perfume": "P ER1 F Y UW2 M",
    "incense": "IH1 N S EH2 N S",
    "discount": "D IH1 S K AW0 N T",
    "refund": "R IY1 F AH2 N D",
    "upgrade": "AH1 P G R EY2 D",
    "replay": "R IY1 P L EY2",
    # Words that are newer than the dictionary, or foreign.
    "miz": "M IH1 Z",
    "covid": "K OW1 V IH0 D",
    "podcasts": "P AA1 D K AE2 S T S",
    "emoji": "IH0 M OW1 JH IY0",
    "emojis": "IH0 M OW1 JH IY0 Z",
    "vlog": "V L AA1 G",
    "tiktok": "T IH1 K T AA2 K",
    "airbnb": "EH2 R B IY2 AH0 N B IY1",
    "json": "JH EY1 S AH0 N",
    "chatbot": "CH AE1 T B AA2 T",
    "elon": "IY1 L AA0 N",
    "brexit": "B R EH1 K S IH0 T",
    "kamala": "K AA1 M AH0 L AH0",
    "zelensky": "Z AH0 L EH1 N S K IY0",
    "kyiv": "K IY1 V",
    "ramen": "R AA1 M AH0 N",
    "unfriend": "AH0 N F R EH1 N D",
    "livestream": "L AY1 V S T R IY2 M",
    "paywall": "P EY1 W AO2 L",
    "ransomware": "R AE1 N S AH0 M W EH2 R",
    "avengers": "AH0 V EH1 N JH ER0 Z",
    "omicron": "AA1 M AH0 K R AA2 N",
    "aeroplane": "EH1 R AH0 P L EY2 N",
    "pyjamas": "P AH0 JH AA1 M AH0 Z",
    "litre": "L IY1 T ER0",
    "litres": "L IY1 T ER0 Z",
    "organise": "AO1 R G AH0 N AY2 Z",
    "hmm": "HH AH1 M",
    # Spellings that the normalizer makes up: for "résumé", "exposé", "rosé", "pâté", "lamé".
    "rezumay": "R EH1 Z AH0 M EY2",
    "expozay": "EH2 K S P OW0 Z EY1",
    "rozay": "R OW0 Z EY1",
    "pahtay": "P AA0 T EY1",
    "lahmay": "L AA0 M EY1",
}
_NOUN_AND_VERB = {
    "record": ("R EH1 K ER0 D", "R AH0 K AO1 R D"),
    "records": ("R EH1 K ER0 D Z", "R AH0 K AO1 R D Z"),
    "object": ("AA1 B JH EH0 K T", "AH0 B JH EH1 K T"),
    "objects": ("AA1 B JH EH0 K T S", "AH0 B JH EH1 K T S"),
    "subject": ("S AH1 B JH IH0 K T", "S AH0 B JH EH1 K T"),
    "present": ("P R EH1 Z AH0 N T", "P R IY0 Z EH1 N T"),
    "project": ("P R AA1 JH EH0 K T", "P R AH0 JH EH1 K T"),
    "produce": ("P R OW1 D UW0 S", "P R AH0 D UW1 S"),
    "permit": ("P ER1 M IH2 T", "P ER0 M IH1 T"),
    "refuse": ("R EH1 F Y UW2 Z", "R AH0 F Y UW1 Z"),
    "conduct": ("K AA1 N D AH0 K T", "K AH0 N D AH1 K T"),
    "contract": ("K AA1 N T R AE2 K T", "K AH0 N T R AE1 K T"),
    "conflict": ("K AA1 N F L IH0 K T", "K AH0 N F L IH1 K T"),
    "contest": ("K AA1 N T EH0 S T", "K AH0 N T EH1 S T"),
    "desert": ("D EH1 Z ER0 T", "D IH0 Z ER1 T"),
    "increase": ("IH1 N K R IY2 S", "IH2 N K R IY1 S"),
    "decrease": ("D IY1 K R IY2 S", "D IH0 K R IY1 S"),
    "insult": ("IH1 N S AH2 L T", "IH2 N S AH1 L T"),
    "protest": ("P R OW1 T EH2 S T", "P R AH0 T EH1 S T"),
    "progress": ("P R AA1 G R EH2 S", "P R AH0 G R EH1 S"),
    "rebel": ("R EH1 B AH0 L", "R IH0 B EH1 L"),
    "transport": ("T R AE1 N S P AO0 R T", "T R AE0 N S P AO1 R T"),
    "transfer": ("T R AE1 N S F ER0", "T R AE0 N S F ER1"),
    "update": ("AH1 P D EY2 T", "AH0 P D EY1 T"),
    "upset": ("AH1 P S EH2 T", "AH0 P S EH1 T"),
    "survey": ("S ER1 V EY2", "S ER0 V EY1"),
    "impact": ("IH1 M P AE0 K T", "IH2 M P AE1 K T"),
    "estimate": ("EH1 S T AH0 M AH0 T", "EH1 S T AH0 M EY2 T"),
    "separate": ("S EH1 P ER0 IH0 T", "S EH1 P ER0 EY2 T"),
    "graduate": ("G R AE1 JH AH0 W AH0 T", "G R AE1 JH AH0 W EY2 T"),
    "use": ("Y UW1 S", "Y UW1 Z"),
    "uses": ("Y UW1 S AH0 Z", "Y UW1 Z AH0 Z"),
    "abuse": ("AH0 B Y UW1 S", "AH0 B Y UW1 Z"),
    "excuse": ("IH0 K S K Y UW1 S", "IH0 K S K Y UW1 Z"),
    "house": ("HH AW1 S", "HH AW1 Z"),
    "lives": ("L AY1 V Z", "L IH1 V Z"),
    "live": ("L AY1 V", "L IH1 V"),
    "tear": ("T IH1 R", "T EH1 R"),
    "wind": ("W IH1 N D", "W AY1 N D"),
    "address": ("AE1 D R EH2 S", "AH0 D R EH1 S"),
    "perfect": ("P ER1 F IH2 K T", "P ER0 F EH1 K T"),
    "import": ("IH1 M P AO2 R T", "IH2 M P AO1 R T"),
    "export": ("EH1 K S P AO0 R T", "IH0 K S P AO1 R T"),
    "discount": ("D IH1 S K AW0 N T", "D IH0 S K AW1 N T"),
    "refund": ("R IY1 F AH2 N D", "R IH0 F AH1 N D"),
    "upgrade": ("AH1 P G R EY2 D", "AH0 P G R EY1 D"),
    "replay": ("R IY1 P L EY2", "R IY0 P L EY1"),
    "convert": ("K AA1 N V ER0 T", "K AH0 N V ER1 T"),
    "insert": ("IH1 N S ER2 T", "IH2 N S ER1 T"),
    "suspect": ("S AH1 S P EH2 K T", "S AH0 S P EH1 K T"),
    "recall": ("R IY1 K AO2 L", "R IH0 K AO1 L"),
    "reject": ("R IY1 JH EH0 K T", "R IH0 JH EH1 K T"),
    "invalid": ("IH1 N V AH0 L AH0 D", "IH2 N V AE1 L AH0 D"),
}
_NOT_AFTER_AND = frozenset("live lives house use record records object subject project produce present".split())


def sound(word: str, before: str, after: str) -> Phones | None:
    """The phones of a word of this module; None for a word that the dictionary decides.

    before, after: the words beside it, "" at a mark or an end. For "the", `after` is the first phone of the next word.
    """
    chosen = _chosen(word, before, after)
    return None if chosen is None else tuple(chosen.split())


def _chosen(word: str, before: str, after: str) -> str | None:
    match word:
        case "the":
            return "DH IY0" if after.rstrip("012") in VOWELS else "DH AH0"
        case "read" if before in BEFORE_PARTICIPLES or before in ("he", "she", "it"):
            return "R EH1 D"
        case "close" if before in BEFORE_ADJECTIVES or after == "to":
            return "K L OW1 S"
        case "used" if after == "to" and before not in BEFORE_PARTICIPLES:
            return "Y UW1 S T"
    if word in _NOUN_AND_VERB:
        noun, verb = _NOUN_AND_VERB[word]
        if before in BEFORE_VERBS and not (before == "and" and word in _NOT_AFTER_AND):
            return verb
        if before in BEFORE_NOUNS:
            return noun
    return PREFERRED.get(word)
