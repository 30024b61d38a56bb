"""Text to words: what a reader would say aloud, in small letters, with the marks that a reader would keep.

"Dr. Smith paid $12.50 on 3/4/2024." becomes "doctor smith paid twelve dollars and fifty cents on march fourth, twenty
twenty four." A capital that stands alone is the name of a letter: "F B I".

One pass over the text: at each place the first rule that fits reads what it matched. Every rule is bounded in length,
so that time grows with the text and no faster; none can fail. Libraries were tried on the cases of
tests/csm_text: num2words reads bare numbers only and is under the LGPL; kitten-text-processing 0.1.0 (Apache-2.0) read
"555-1234" as "five hundred and fifty five-twelve thirty four", "24/7" as "twenty four sevenths", "30 km/h" as "kilometers
per H", "AT&T" as "ATANDT", and took 20 to 90 ms a sentence, in 9 MB. So the rules are ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Container

from csm_text import abbreviations, addresses, amounts, dates, numbers, scripts
from csm_text.symbols import MARKS

_N = amounts.NUMBER
_WORD = r"(?P<word>[A-Za-z]{1,100}(?:'[A-Za-z]{1,100}){0,4})"
_MIXED = r"(?P<mixed>[A-Za-z]{1,40}\d[A-Za-z0-9]{0,40}|\d{1,40}[A-Za-z][A-Za-z0-9]{0,40})"

RULES = (
    r"(?P<phones>[\U000f0000-\U000ffffd])",
    addresses.MAIL,
    addresses.URL,
    addresses.DOMAIN,
    dates.ISO_DATE,
    dates.SLASH_DATE,
    dates.SHORT_DATE,
    dates.TIME,
    dates.HOUR,
    addresses.PHONE,
    addresses.DOTTED,
    amounts.MONEY,
    amounts.MONEY_AFTER,
    amounts.CENTS,
    amounts.TEMPERATURE,
    amounts.PERCENT,
    dates.DAY_MONTH,
    dates.MONTH_DAY,
    dates.MONTH_YEAR,
    dates.SHORT_MONTH,
    amounts.FEET,
    dates.DECADE,
    amounts.MEASURE,
    amounts.FRACTION,
    dates.YEAR_RANGE,
    dates.ERA_YEAR,
    rf"(?<![\w.,])(?P<ordinal>{_N})(?i:st|nd|rd|th)(?![A-Za-z0-9])",
    rf"(?<![\w.,-])(?P<from>{_N})(?P<dash1>\s?[-–]\s?)(?P<to>{_N})(?![\w-]|[.,]\d)",
    rf"(?<![\w.,:])(?P<ratio1>\d{{1,6}}):(?P<ratio2>\d{{1,6}})(?![\w:])",
    rf"(?<![\w.,])(?P<times1>{_N})(?P<cross>\s?[x×*]\s?)(?={_N}(?![A-Za-z]))",
    rf"(?:(?<=[\s(\[])|^)(?P<sign>[-+])(?=[\d.])",
    rf"(?<![A-Za-z0-9])(?P<whole>{_N})?\.(?P<fraction>\d{{1,40}})(?![A-Za-z0-9])(?!\.\d)",
    rf"(?<![A-Za-z0-9])(?P<number>{_N})(?![A-Za-z0-9])",
    abbreviations.LATIN_RULE,
    abbreviations.ABBREVIATION,
    abbreviations.PAIR,
    abbreviations.INITIALS,
    abbreviations.INITIAL,
    abbreviations.NUMERAL,
    abbreviations.KING,
    r"(?<![A-Za-z0-9])(?P<language>[CF])(?P<suffix>\+\+|\#)(?![A-Za-z0-9])",
    addresses.HANDLE,
    addresses.TAG_NUMBER,
    addresses.TAG,
    rf"(?<![A-Za-z0-9]){_MIXED}",
    _WORD,
    r"(?P<digits>\d{1,40})",
    r"(?P<paragraph>\n[^\S\n]{0,20}\n\s{0,20})",
    r"(?P<dots>\.{2,10}|…)",
    r"(?P<dash>(?:(?<=\s)-{1,3}(?=\s)|--|[–—]))",
    r"(?P<mark>[.,?!;:])",
    r"(?P<bracket>[()\[\]{}])",
    r"(?P<markup><[A-Za-z/][^<>]{0,100}>)",
    r"(?P<symbol>[^\sA-Za-z0-9])",
)
_SCANNER = re.compile("|".join(RULES))

_SYMBOLS = {
    **{"&": "and", "%": "percent", "+": "plus", "=": "equals", "@": "at", "°": "degrees", "#": "hash", "<": "less than"},
    **{">": "greater than", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "×": "times", "\\": "backslash"},
    **{"¢": "cents", "^": ""},
}

_STRENGTH = {mark: strength for strength, mark in enumerate(MARKS)}

Groups = dict[str, str | None]


class Normalizer:
    """Reads figures, signs, abbreviations and capitals as words."""

    def __init__(self, words: Container[str]) -> None:
        """words: known ones, in small letters; whether capitals are read or spelled depends on them."""
        self._words = words

    def __call__(self, text: str) -> str:
        """Words, letters that are spelled, marks, and the private characters of a lexicon, with spaces between."""
        text = scripts.plain(text)
        return _Reading(self._words, text).words()


class _Reading:
    """One text as it is read."""

    def __init__(self, words: Container[str], text: str) -> None:
        self._known = words
        self._text = text
        self._shouted = not re.search("[a-z]", text) and len(re.findall("[A-Z]{2,}", text)) > 2
        self._last_kind = ""
        self._place = 0  # where the match begins that is being read
        self._out: list[str] = []

    def words(self) -> str:
        for match in _SCANNER.finditer(self._text):
            self._place = match.start()
            groups = {name: text for name, text in match.groupdict().items() if text is not None}
            kind = next(name for name in _KINDS if name in groups)
            if kind in ("dash", "symbol") and match[0] in ("-", "–") and self._joins(match.end()):
                self.say("to")
            else:
                _KINDS[kind](self, defaultdict(lambda: None, groups))
            if not match[0].isspace():
                self._last_kind = kind
        return " ".join(self._out)

    def _joins(self, end: int) -> bool:
        """Whether a hyphen stands between two times or days: "9am-5pm", "Mon.-Fri."."""
        following = self._text[end : end + 4].lstrip()
        if self._last_kind in ("hour", "hour2"):
            return following[:1].isdigit()
        return self._last_kind == "abbreviation" and following[:1].isupper()

    def say(self, words: str) -> None:
        """Words that are written out: capitals alone stay, marks stand alone."""
        for part in re.findall(r"[A-Za-z']+|[.,]", words):
            if part in _STRENGTH:
                self.mark(part)
            else:
                self._out.append(part if len(part) == 1 and part.isupper() else part.lower())

    def mark(self, mark: str) -> None:
        """Of marks that follow each other the strongest stays; none is before the first word."""
        if not self._out:
            return
        last = self._out[-1]
        if last not in _STRENGTH:
            self._out.append(mark)
        elif _STRENGTH[mark] > _STRENGTH[last]:
            self._out[-1] = mark

    def word(self, word: str) -> None:
        """A word as it is written: capitals and inner capitals are looked at."""
        base, apostrophe, ending = word.partition("'")
        if base.isupper() and len(base) > 1 and self._is_spelled(base):
            self._spell(base)
            if ending:
                self._out[-1] += "'" + ending.lower()
            return
        plural = base[:-1]
        if base.endswith("s") and len(plural) > 1 and plural.isupper() and not self._shouted:
            self._spell(plural)  # CEOs
            self._out[-1] += "'s"
            return
        parts = re.findall("[A-Z]*[^A-Z]+|[A-Z]+", base)
        if len(parts) > 1 and base.lower() not in self._known:
            for part in parts[:-1]:
                self.word(part if len(part) > 1 else part.upper())
            self.word(parts[-1] + apostrophe + ending)
            return
        if len(word) == 1 and word.isalpha() and word.lower() not in ("a", "i"):
            self._out.append(word.upper())
        elif word == "A" and self._is_letter():
            self._out.append("A")
        else:
            self._out.append(word.lower())

    def _is_letter(self) -> bool:
        """Whether "A" is the letter and no article: inside a sentence, unless the next word has a capital too."""
        after = self._text[self._place + 1 : self._place + 3].strip()
        return bool(self._out) and self._out[-1] not in _STRENGTH and not after[:1].isupper()

    def _is_spelled(self, capitals: str) -> bool:
        small = capitals.lower()
        if self._shouted:
            return small not in self._known and not re.search("[AEIOUY]", capitals)
        if capitals in abbreviations.SPELLED:
            return True
        if len(capitals) <= 3:
            return small not in abbreviations.STRESSED
        if small in self._known:
            return False
        return len(capitals) <= 5 or not re.search("[AEIOUY]", capitals)

    def _spell(self, letters: str) -> None:
        self._out.extend(letters.upper())

    # What each kind of match is read as.

    def _phones(self, found: Groups) -> None:
        self._out.append(found["phones"] or "")

    def _address(self, address: str, rest: str = "") -> None:
        for part in addresses.spelled(address):
            for word in part.split(" "):
                if word.lower() == "www":
                    self._spell(word)
                else:
                    self.word(word.upper() if len(word) == 1 else word)
        for mark in rest:
            if mark in ".,;:!?":
                self.mark(mark)

    def _mixed_word(self, found: Groups) -> None:
        """Letters as a word or spelled, one or two digits as a number, more of them one by one."""
        for part in re.findall(r"[A-Za-z]+|\d+", found["mixed"] or ""):
            if part[0].isdigit():
                self.say(numbers.cardinal(part) if len(part) <= 2 else numbers.by_digit(part))
            elif len(part) == 1 or (part.lower() not in self._known and len(part) < 4):
                self._spell(part)
            else:
                self.word(part)

    def _cross(self, found: Groups) -> None:
        self.say(numbers.cardinal(found["times1"] or "0"))
        self.say("times" if (found["cross"] or "").startswith(" ") else "by")

    def _initials(self, found: Groups) -> None:
        """"U.S.", and whether its last full stop ends the sentence too."""
        initials = found["initials"] or ""
        self._spell(initials.replace(".", ""))
        if found["possessive"] is not None:
            self._out[-1] += "'s"
        after = self._text[self._place + len(initials) :]
        if initials.endswith(".") and not after[:20].strip():
            self.mark(".")

    def _pair(self, found: Groups) -> None:
        first, _, last = (found["pair"] or "").partition("&")
        self._spell(first)
        self.say("and")
        self._spell(last)

    def _range(self, found: Groups) -> None:
        """"10-20" is a range; with spaces, in a text that has an equals sign, it is a difference."""
        minus = " - " in (found["dash1"] or "") and "=" in self._text
        first, last = numbers.cardinal(found["from"] or "0"), numbers.cardinal(found["to"] or "0")
        self.say(f"{first} {'minus' if minus else 'to'} {last}")

    def _abbreviated(self, found: Groups) -> None:
        words = abbreviations.abbreviation(found, self._text[: self._place][-60:])
        if words is None:
            self.word(found["abbreviation"] or "")
            self.mark(".")
        else:
            self.say(words)

    def _numeral(self, found: Groups) -> None:
        value = numbers.roman(found["numeral"] or "")
        self.word(found["numbered"] or "")
        self.say(numbers.cardinal(str(value))) if value else self.word(found["numeral"] or "")

    def _king(self, found: Groups) -> None:
        value = numbers.roman(found["kingth"] or "")
        self.word(found["king"] or "")
        self.say(f"the {numbers.ordinal(str(value))}") if value else self.word(found["kingth"] or "")

    def _slashed_date(self, found: Groups) -> None:
        words = dates.slash_date(found)
        if words is None:
            words = " slash ".join(
                numbers.cardinal(part or "0") for part in (found["sfirst"], found["ssecond"], found["syear"])
            )
        self.say(words)

    def _symbol(self, found: Groups) -> None:
        symbol = found["symbol"] or ""
        before, after = self._text[: self._place][-1:], self._text[self._place + 1 :][:1]
        if symbol == "/" and before.isalnum() and after.isalnum():
            is_choice = self._text[max(self._place - 3, 0) : self._place + 3].lower() == "and/or"
            self.say("" if is_choice else "slash")
        elif symbol == "~" and after.isdigit():
            self.say("about")
        elif symbol in "<>" and not (before.isspace() and after.isspace() or after.isdigit()):
            pass
        elif symbol in _SYMBOLS:
            self.say(_SYMBOLS[symbol])


def _said(read: Callable[[Groups], str]) -> Callable[[_Reading, Groups], None]:
    return lambda reading, found: reading.say(read(found))


def _plain_number(found: Groups) -> str:
    digits = found["number"] or found.get("digits") or "0"
    long = len(digits) > 7 and "," not in digits and not digits.endswith("000")
    if long or digits == "911":  # an account, the emergency call
        return numbers.by_digit(digits)
    return numbers.year(digits) if numbers.is_year(digits) else numbers.cardinal(digits)


def _url(reading: _Reading, found: Groups) -> None:
    address, rest = addresses.split_end(found["url"] or "")
    reading._address(addresses.without_scheme(address), rest)


def _domain(reading: _Reading, found: Groups) -> None:
    address, rest = addresses.split_end(found["domain"] or "")
    reading._address(address.rstrip("/"), rest)


# The group that shows which rule has matched, and what reads it.
_KINDS: dict[str, Callable[[_Reading, Groups], None]] = {
    "word": lambda reading, found: reading.word(found["word"] or ""),
    "mark": lambda reading, found: reading.mark(found["mark"] or ""),
    "symbol": _Reading._symbol,
    "phones": _Reading._phones,
    "mail": lambda reading, found: reading._address(found["mail"] or ""),
    "url": _url,
    "domain": _domain,
    "iyear": _said(dates.iso_date),
    "sfirst": _Reading._slashed_date,
    "dword": _said(dates.short_date),
    "hour": _said(dates.time),
    "hour2": _said(dates.hour),
    "phone": _said(addresses.phone),
    "dotted": _said(addresses.dotted),
    "money1": _said(amounts.money),
    "money2": _said(amounts.money),
    "cents": _said(amounts.cents),
    "twhole": _said(amounts.temperature),
    "pwhole": _said(amounts.percent),
    "eday": _said(dates.day_month),
    "mname": _said(dates.month_day),
    "nname": _said(dates.month_year),
    "oname": _said(dates.short_month),
    "feet": _said(amounts.feet),
    "unit": _said(amounts.measure),
    "fover": _said(amounts.fraction),
    "decade": _said(dates.decade),
    "short_decade": _said(dates.decade),
    "yfrom": _said(dates.year_range),
    "erayear": _said(dates.era_year),
    "ordinal": _said(lambda found: numbers.ordinal(found["ordinal"] or "0")),
    "from": _Reading._range,
    "ratio1": _said(lambda found: f"{numbers.cardinal(found['ratio1'] or '0')} to {numbers.cardinal(found['ratio2'] or '0')}"),
    "times1": _Reading._cross,
    "sign": _said(lambda found: "minus" if found["sign"] == "-" else "plus"),
    "fraction": _said(lambda found: numbers.decimal(found["whole"] or "", found["fraction"] or "0")),
    "number": _said(_plain_number),
    "digits": _said(lambda found: numbers.cardinal(found["digits"] or "0")),
    "latin": _said(lambda found: abbreviations.LATIN[(found["latin"] or "").lower().replace(" ", "")] + ","),
    "slashed": _said(lambda found: abbreviations.LATIN[(found["slashed"] or "").lower()]),
    "abbreviation": _Reading._abbreviated,
    "pair": _Reading._pair,
    "initials": _Reading._initials,
    "initial": lambda reading, found: reading._spell(found["initial"] or ""),
    "numbered": _Reading._numeral,
    "king": _Reading._king,
    "language": _said(lambda found: f"{found['language']} {'plus plus' if found['suffix'] == '++' else 'sharp'}"),
    "handle": lambda reading, found: reading._address("@" + (found["handle"] or "")),
    "tagnumber": _said(lambda found: f"number {numbers.cardinal(found['tagnumber'] or '0')}"),
    "tag": lambda reading, found: (reading.say("hashtag"), reading._address(found["tag"] or ""))[0],
    "mixed": _Reading._mixed_word,
    "paragraph": lambda reading, found: reading.mark("."),
    "dots": lambda reading, found: reading.mark("..."),
    "dash": lambda reading, found: reading.mark("-"),
    "bracket": lambda reading, found: reading.mark(","),
    "markup": lambda reading, found: None,
}
