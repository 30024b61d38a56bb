"""Money that version 1 lacks: dollars of other countries, codes before the amount, pence, "a $20 bill"."""

from __future__ import annotations

import re

from csm_text.normalization import amounts, numbers
from csm_text.normalization.derived import derived
from csm_text.normalization.everyday.sizes import singular
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_REGIONS = {"C": "Canadian", "CA": "Canadian", "A": "Australian", "AU": "Australian", "NZ": "New Zealand"}
_REGIONS |= {"HK": "Hong Kong", "S": "Singapore", "NT": "New Taiwan", "TW": "Taiwan", "J": "Jamaican", "TT": "Trinidad"}
_OTHERS = {  # of another dollar's sign: one, many, hundredths
    "R": ("real", "reais", "centavos"),
    "MX": ("Mexican peso", "Mexican pesos", "centavos"),
    "AR": ("Argentine peso", "Argentine pesos", "centavos"),
    "CL": ("Chilean peso", "Chilean pesos", "centavos"),
}
_CODES = {  # one, many
    "USD": ("U S dollar", "U S dollars"),
    "CAD": ("Canadian dollar", "Canadian dollars"),
    "AUD": ("Australian dollar", "Australian dollars"),
    "NZD": ("New Zealand dollar", "New Zealand dollars"),
    "SGD": ("Singapore dollar", "Singapore dollars"),
    "HKD": ("Hong Kong dollar", "Hong Kong dollars"),
    "EUR": ("euro", "euros"),
    "GBP": ("pound", "pounds"),
    "CHF": ("Swiss franc", "Swiss francs"),
    "JPY": ("yen", "yen"),
    "CNY": ("yuan", "yuan"),
    "RMB": ("yuan", "yuan"),
    "INR": ("rupee", "rupees"),
    "Rs.": ("rupee", "rupees"),
    "Rs": ("rupee", "rupees"),
    "KRW": ("won", "won"),
    "SEK": ("Swedish krona", "Swedish kronor"),
    "NOK": ("Norwegian krone", "Norwegian kroner"),
    "DKK": ("Danish krone", "Danish kroner"),
    "PLN": ("zloty", "zloty"),
    "MXN": ("Mexican peso", "Mexican pesos"),
    "BRL": ("real", "reais"),
    "ZAR": ("rand", "rand"),
    "BTC": ("bitcoin", "bitcoin"),
    "CZK": ("Czech koruna", "Czech koruny"),
    "HUF": ("Hungarian forint", "Hungarian forint"),
    "TRY": ("Turkish lira", "Turkish lira"),
    "THB": ("Thai baht", "Thai baht"),
    "IDR": ("Indonesian rupiah", "Indonesian rupiah"),
    "MYR": ("Malaysian ringgit", "Malaysian ringgit"),
    "TWD": ("New Taiwan dollar", "New Taiwan dollars"),
    "VND": ("Vietnamese dong", "Vietnamese dong"),
    "AED": ("dirham", "dirhams"),
    "SAR": ("Saudi riyal", "Saudi riyals"),
    "ILS": ("shekel", "shekels"),
    "NGN": ("naira", "naira"),
    "UAH": ("hryvnia", "hryvnia"),
    "RUB": ("ruble", "rubles"),
    "kr": ("krone", "kroner"),
    "kr.": ("krone", "kroner"),
}
_SIGNS = {
    "₩": "won",
    "₽": "rubles",
    "₺": "lira",
    "₫": "dong",
    "₪": "shekels",
    "₱": "pesos",
    "₴": "hryvnia",
    "₿": "bitcoin",
    "฿": "baht",
    "₦": "naira",
    "₡": "colones",
    "₵": "cedis",
    "৳": "taka",
    "₲": "guaranies",
    "₸": "tenge",
    "₾": "lari",
}
_LINES = "480|720|1080|1440|2160"
# Codes after an amount. amounts.MONEY_AFTER reads the first five of those left out.
_AFTER = [code for code in _CODES if code not in ("USD", "EUR", "GBP", "CHF", "JPY", "Rs.", "Rs", "kr.")]
_codes = "|".join(re.escape(code) for code in _CODES)
_scales = r"(?:\s?(?P<{}>k|K|m|M|mn|bn|B|million|billion)(?![A-Za-z]))?"
_N = amounts.NUMBER

MONEY = derived(
    amounts.MONEY,
    ("(?:US|A|C)?", rf"(?P<mregion>US|{'|'.join([*_REGIONS, *_OTHERS])})?"),
    (r"(?:\s?(?P<mscale1>", r"(?:(?:\s?|-(?=[a-z]{4}))(?P<mscale1>"),
)
MONEY += r"(?:(?<=/mo)\.(?=\s?[,;:)]|\s[a-z]))?"
CODE_BEFORE = (
    rf"(?<![A-Za-z0-9])(?P<codebefore>{_codes})\s?(?P<codewhole>{_N})(?:\.(?P<codepart>\d{{1,2}}))?(?![\d])"
    + _scales.format("codescale")
)
CODE_AFTER = (
    rf"(?<![A-Za-z0-9.,])(?P<afterwhole>{_N})(?:\.(?P<afterpart>\d{{1,8}}))?"
    + _scales.format("afterscale")
    + rf"\s?(?P<codeafter>{'|'.join(_AFTER)})"
    + r"(?![A-Za-z0-9])"
)
CODE_AGAIN = r"(?<=[\dkKMB] )(?P<codeagain>USD|CAD|AUD|NZD|EUR|GBP|SGD|HKD)(?![A-Za-z0-9])"
PENCE = r"(?<![\w.,:$])(?P<pence>[1-9]\d?|\d{1,3}\.\d{1,2})p(?![A-Za-z0-9])"
LINES = rf"(?<![\w.,])(?P<lines>{_LINES})p(?![A-Za-z])"
DOLLAR_AGAIN = r"(?<=illion)-dollar(?![A-Za-z])"
_sign = re.compile(rf"([{''.join(_SIGNS)}])\s?(\d[\d,.]{{0,20}}(?<=\d)(?:\s?(?:million|billion|[kMmB](?![A-Za-z])))?)")
_INDIAN = re.compile(r"(?:₹|Rs\.?|INR)\s?\d{1,2}(?:,\d\d){1,4},\d{3}(?![\d,])")
# "€1.000,50" and "3,5 kg": full stops between thousands and a comma before the part.
_CONTINENTAL = re.compile(
    r"(?<=[€$])\s?\d{1,3}(?:\.\d{3}){0,3},\d\d(?!\d|,\d)|(?<![\w.,])\d{1,3}(?:\.\d{3}){0,3},\d\d(?=\s?€)"
    r"|(?<![\w.,])\d{1,3},\d{1,2}(?=\s?(?:kg|g|km|cm|mm|m|l|L|ml|°C|%)(?![A-Za-z]))"
)
_SWAPPED = str.maketrans(",.", ".,")
# "1.000.000" and "1'000".
_MILLIONS = re.compile(r"(?<![\w.,'’])[1-9]\d{0,2}(?:\.\d{3}\.000|(?:['’]\d{3}){1,4})(?![\w'’]|[.,]\d)")
_LETTERED = {"zł": "PLN", "Kč": "CZK"}
_lettered = re.compile(rf"(?<=\d)\s?({'|'.join(_LETTERED)})(?!\w)")
_figure = re.compile(r"\d")
_MINUS = re.compile(r"([$€£])-(?=\d)")  # "$-5"
_PLURALS = re.compile(r"\b(dollar|cent|euro|pound|franc|centime|rupee)s\b")


def prepared(text: str) -> str:
    """The text with words for currency signs that `scripts.plain` would drop, and with numbers in English form."""
    if not _figure.search(text):
        return text
    text = _MINUS.sub(r"-\1", text)
    text = _MILLIONS.sub(lambda match: re.sub("[.'’]", ",", match[0]), text)
    if "," in text:
        text = _INDIAN.sub(lambda match: match[0].replace(",", ""), text)
        text = _CONTINENTAL.sub(lambda match: match[0].translate(_SWAPPED), text)
    if not text.isascii():
        text = _sign.sub(lambda match: f"{match[2]} {_SIGNS[match[1]]}", text)
        text = _lettered.sub(lambda match: f" {_LETTERED[match[1]]}", text)
    return text


def _money(reading: Reading, found: Groups) -> None:
    """An amount, in the singular before a noun: "a $20 bill"."""
    words = re.sub("^one dollars$", "one dollar", amounts.money(found))  # "$1.00"
    if found["money1"] == "$" and found["mregion"] in _REGIONS:
        words = re.sub("dollar", f"{_REGIONS[found['mregion'] or '']} dollar", words)
    if found["money1"] == "$" and found["mregion"] in _OTHERS:
        one, many, hundredths = _OTHERS[found["mregion"] or ""]
        words = words.replace("dollars", many).replace("dollar", one).replace("cents", hundredths)
    reading.say(_PLURALS.sub(r"\1", words) if singular(reading) else words)


def _cents(reading: Reading, found: Groups) -> None:
    words = amounts.cents(found)
    reading.say(_PLURALS.sub(r"\1", words) if singular(reading) else words)


def _money_after(found: Groups) -> str:
    names = ("mwhole2", "mcents2", "mscale2", "money2")
    return amounts.money({"money1": None, "msign": None, **{name: found[name] for name in names}})


def _code(code: str | None, whole: str | None, part: str | None, scale: str | None) -> str:
    number = numbers.decimal(whole or "0", part if part and int(part) else None)
    one, many = _CODES[code or ""]
    scaled = f"{number} {amounts.SCALES[scale]}" if scale else number
    return f"{scaled} {one if scaled == 'one' else many}"


def _code_before(found: Groups) -> str:
    return _code(found["codebefore"], found["codewhole"], found["codepart"], found["codescale"])


def _code_after(found: Groups) -> str:
    return _code(found["codeafter"], found["afterwhole"], found["afterpart"], found["afterscale"])


def _code_again(reading: Reading, found: Groups) -> None:
    """ "USD" after "$8.50" adds nothing; "CAD" after "$20" makes the dollars Canadian."""
    code = found["codeagain"] or ""
    if reading.last_rule not in ("money", "money_range"):
        reading.word(code)
    elif code.endswith("D") and code != "USD" and reading.out[-1].startswith("dollar"):
        reading.out[-1:] = [*_CODES[code][0].lower().split()[:-1], reading.out[-1]]


def _pence(found: Groups) -> str:
    count = found["pence"] or "0"
    whole, _, part = count.partition(".")
    return f"{numbers.decimal(whole, part)} {'penny' if count == '1' else 'pence'}"


def _lines(found: Groups) -> str:
    """The height of a picture: "1080p" is "ten eighty P"."""
    digits = found["lines"] or "0"
    return f"{numbers.cardinal(digits[:-2])} {numbers.two_digits(digits[-2:])} P"


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("code_before", CODE_BEFORE, said(_code_before)),
    ("code_after", CODE_AFTER, said(_code_after)),
    ("code_again", CODE_AGAIN, _code_again),
    ("lines", LINES, said(_lines)),
    ("pence", PENCE, said(_pence)),
    ("dollar_again", DOLLAR_AGAIN, said(lambda found: "")),
)
REPLACED: dict[str, tuple[str, Reader]] = {
    "money": (MONEY, _money),
    "cents": (amounts.CENTS, _cents),
    "money_after": (amounts.MONEY_AFTER, said(_money_after)),
}
