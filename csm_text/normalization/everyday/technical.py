"""What programmers and scientists write: paths, dotted names, command flags, operators, formulae."""

from __future__ import annotations

import re
import unicodedata

from csm_text.normalization import addresses, amounts, numbers
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, as_words, said, say_address

_ENDINGS = (
    "js|ts|tsx|jsx|mjs|py|ipynb|rs|go|java|rb|sh|sql|cpp|hpp|cs|kt|swift|md|rst|txt|log|pdf|json|jsonl|html?|css|scss|csv|tsv"
    "|docx?|xlsx?|pptx?|png|jpe?g|gif|svg|webp|mp[34]|mov|avi|wav|flac|ogg|zip|tar|gz|tgz|rar|7z|exe|dll|bat|apk|dmg|iso"
    "|ya?ml|toml|ini|cfg|conf|env|lock|xml|php|vue|ics|epub|bak|tmp"
)
_COMPARED = {
    ">=": "greater than or equal to",
    "<=": "less than or equal to",
    "!=": "is not equal to",
    "!==": "is not equal to",
    "&&": "and",
}
_LESS_THAN = {"<": "less than", ">": "greater than", "~": "about"}
_POWERS = {"2": "squared", "3": "cubed"}

FILE = (
    r"(?<![A-Za-z0-9.@/-])(?P<file>(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,39}/){0,6}[A-Za-z0-9][A-Za-z0-9_-]{0,39}(?:\.[A-Za-z0-9_-]{1,20}){0,3}"
    rf"\.(?i:{_ENDINGS}))(?![A-Za-z0-9]|\.[A-Za-z0-9])"
)
PATH = (
    r"(?:(?<=[A-Za-z,:&|;]\s)|(?<=[(\[\"'])|^)(?P<path>(?:~|\.{1,2})?/[A-Za-z0-9_.][A-Za-z0-9_.-]{0,60}"
    r"(?:/[A-Za-z0-9_.-]{0,60}){0,12})"
)
_DOT_FILES = "gitignore|bashrc|zshrc|profile|dockerignore|editorconfig|ssh|config|git|github|local"
ENDING = rf"(?:(?<=[\s(\[\"'])|^)\.(?P<ending>{_ENDINGS}|{_DOT_FILES}|NET|net|com|org|gov|edu|io)(?![A-Za-z0-9])"
NET = r"(?<![A-Za-z0-9])(?P<beforenet>[A-Z][A-Za-z]{1,8})\.NET(?![A-Za-z0-9])"
CALLED_ON = r"(?<=\))\.(?P<calledon>)(?=[a-z_]\w{0,40}\()"
DOTTED_NAME = (
    r"(?<![\w.@/-])(?P<dottedname>[A-Za-z_]\w{1,40}(?:\.[A-Za-z_]\w{0,40}){1,5}(?=\()|[a-z_]\w{1,40}(?:\.[a-z_]\w{1,40}){2,5}"
    r"|self\.[a-z_]\w{0,40})(?![\w.@-]|\.\w)"
)
SHORT_ADDRESS = (
    r"(?<![A-Za-z0-9.@/])(?<![A-Za-z0-9]-)"
    r"(?P<shortaddress>(?:[a-z0-9][a-z0-9-]{0,39}\.){1,3}[a-z]{2,6}/[A-Za-z0-9][^\s<>\"|,;]{0,200}"
    r"|bit\.ly|youtu\.be)"
)
PORT = r"(?:(?<=localhost)|(?<=\.\d)|(?<=\.\d\d)|(?<=\.\d\d\d)):(?P<port>\d{4,5})(?!\d)"
COMPARED = r"(?P<compared>>=|<=(?!>)|!==?|&&)(?=\s?[\w\"'($.-])"
EITHER = r"(?<=[\w)]\s)\|\|(?=\s[\w(!])"
BAR = r"(?<=\s)\|(?=\s)"
ARROW = r"(?:-{1,2}|(?<![<>=!])=)>(?=[\s\w\"'({])"
POWER = r"(?:(?<=[A-Za-z0-9)])|(?<=[a-z]\s))\^\{?(?P<power>-?\d{1,3}|[a-z](?![A-Za-z]))\}?(?!\d)"
FACTORIAL = r"(?<=\d)!(?=\s?[=*/+)])"
COEFFICIENT = (
    r"(?<![\w.,-])(?P<coefficient>\d{1,4})(?P<variable>[xyzabn])(?=\s[-+=]\s|\^|\)|\s?=)"
    r"|(?:(?<=[=+]\s)|(?<=[=+(])|(?<=\s-\s))(?P<coefficient2>\d{1,4})(?P<variable2>[xyzn])(?![A-Za-z0-9])"
)
MINUS = r"(?:(?<=\d)|(?<=[^A-Za-z'][a-z])|(?<=\)))(?:\s-\s|-)(?P<minus>)(?=(?:\d|[a-z](?![A-Za-z'])|\())"
TIMES = r"(?:(?<=[\d)])\s?\*\s?(?=[\d(])|(?<=[\d)]\s)\*\s(?=[A-Za-z(\d])|(?<=[a-z]\s)\*\s(?=[\d(]))(?P<star>)"
BY = rf"(?<![\w.,])(?P<times1>{amounts.NUMBER})(?P<cross>\s?[x×]\s?)(?={amounts.NUMBER}(?![A-Za-z]))"
EXPONENT = (
    r"(?<![\w.])(?P<mantissa>\d{1,10}(?:\.\d{1,10})?)"
    r"[eE](?P<exponent>[-+]\d{1,3}|(?<=\de)\d{1,2}|(?<=\.\d[eE])\d{1,2}|(?<=\.\d\d[eE])\d{1,2})(?!\w)"
)
OVER = r"(?<=\))\s?/\s?(?=[\w(])(?P<over>)"
DIVIDED = r"(?<=\d)\s/\s(?=[\d(])(?P<divided>)"
FUNCTION = r"(?<![\w'.])(?P<function>[fghFGHPO])(?P<prime>'?)\((?=[A-Za-z0-9][^()]{0,12}\))"
FLAG = (
    r"(?:(?<=[\s(\[\"'`])|^)(?:--(?P<flag>[a-z][a-z0-9]*)(?=[\s=,.;:)\"'`]|-[a-z]|$)"
    r"|(?<!\b[Aa]n\s)(?<!\b[Aa]\s)-(?P<letterflag>[B-HJ-Zb-z])(?=[\s,.;)\"']|$))"
)
SALT = r"(?<![A-Za-z0-9])(?P<salt>NaCl|KCl|HCl|NaOH|KOH|HBr|NaF|AgCl|MgO|CaO|ZnO|FeO|CuO|NaHCO|GaAs|SiC)(?![A-Za-z0-9])"
PRODUCT = r"(?<![A-Za-z0-9])(?!km|cm|mm|ft|in|mi|yd)(?P<product>[a-z]{2})(?=\^\d)"
LESS_THAN = r"(?P<lessthan>[<>~])(?=[$€£¥]\s?\d)"
WILD = r"(?<=\d)\.x(?P<wild>)(?![A-Za-z0-9])"
SLASH_CAPITALS = r"(?<![\w/])(?P<slashed_capitals>[A-Z]{1,4}(?:/[A-Z]{1,4}){1,4})(?![\w/])"
MARKUP = r"<(?!https?:)[A-Za-z/][^<>]{0,100}>"
_SUPERSCRIPTS = re.compile(r"(?:(?<=[0-9)])|(?<=\b[A-Za-z]))(?:⁻?[⁰¹⁴-⁹]|⁻[²³]|⁻?[⁰¹²³⁴-⁹]{2,3})")
_SIGNS = re.compile(
    r"(?<=\d)\s?([kM]?)Ω|(?<=\d)\s?º(?=\s?[CF]\b)|[→⇒⟶➔➜➡]|Ø(?=\s?\d)|√(?=\s?[\w(])|(?:(?<=[\w)])\s?−\s?|−)(?=[\w(√π])"
)


def prepared(text: str) -> str:
    """The text with words for signs that `scripts.plain` would drop or change."""
    if text.isascii():
        return text
    return _SIGNS.sub(_sign, _SUPERSCRIPTS.sub(_superscript, text))


def _superscript(match: re.Match[str]) -> str:
    return "^" + unicodedata.normalize("NFKC", match[0]).replace("−", "-")


def _sign(match: re.Match[str]) -> str:
    sign = match[0].strip()
    if sign.endswith("Ω"):
        return {"": " ohms", "k": " kiloohms", "M": " megaohms"}[match[1] or ""]
    return {"º": "°", "Ø": " diameter ", "√": " square root of ", "−": " minus "}.get(sign, ", ")


def _path(reading: Reading, found: Groups) -> None:
    say_address(reading, *addresses.split_end(found["path"] or ""))


def _ending(reading: Reading, found: Groups) -> None:
    reading.say("dot")
    reading.written((found["ending"] or "").lower())


def _net(reading: Reading, found: Groups) -> None:
    reading.word(found["beforenet"] or "")
    reading.say("dot net")


def _power(found: Groups) -> str:
    power = found["power"] or ""
    number = power.lstrip("-")
    if power in _POWERS:
        return _POWERS[power]
    words = numbers.cardinal(number) if number.isdigit() else number.upper()
    return f"to the power of {'minus ' if power.startswith('-') else ''}{words}"


def _coefficient(reading: Reading, found: Groups) -> None:
    reading.say(numbers.cardinal(found["coefficient"] or found["coefficient2"] or "0"))
    reading.spell(found["variable"] or found["variable2"] or "")


def _minus(reading: Reading, found: Groups) -> None:
    """A difference where an equals sign is near; otherwise a dash or a hyphen."""
    if "=" in reading.before(60) + reading.after(60):
        reading.say("minus")
    elif reading.text[reading.start : reading.end].startswith(" "):
        reading.mark("-")


def _exponent(found: Groups) -> str:
    whole, _, part = (found["mantissa"] or "0").partition(".")
    exponent = found["exponent"] or "+0"
    words = numbers.decimal(whole, part)
    sign = "minus " if exponent.startswith("-") else ""
    return f"{words} times ten to the power of {sign}{numbers.cardinal(str(abs(int(exponent))))}"


def _divided(reading: Reading, found: Groups) -> None:
    reading.say(
        "out of"
        if re.match(r"(?:5|10|100)(?![\d.])", reading.after(5)) and "=" not in reading.after(20)
        else "divided by"
    )


def _flag(reading: Reading, found: Groups) -> None:
    """ "--verbose" and "-v" of a command."""
    if found["flag"]:
        reading.say("dash dash")
        reading.written(found["flag"])
    else:
        reading.say("dash")
        reading.spell(found["letterflag"] or "")


def _function(reading: Reading, found: Groups) -> None:
    reading.spell(found["function"] or "")
    reading.say("prime of" if found["prime"] else "of")
    reading.open_brackets.append(False)


def _slash_capitals(reading: Reading, found: Groups) -> None:
    """ "TCP/IP", "A/B"."""
    for part in (found["slashed_capitals"] or "").split("/"):
        if len(part) == 1:
            reading.spell(part)
        else:
            reading.word(part)


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("file", FILE, as_words("file")),
    ("path", PATH, _path),
    ("ending", ENDING, _ending),
    ("net", NET, _net),
    ("called_on", CALLED_ON, said(lambda found: "dot")),
    ("dotted_name", DOTTED_NAME, as_words("dottedname")),
    ("port", PORT, said(lambda found: f"colon {numbers.cardinal(found['port'] or '0')}")),
    ("compared", COMPARED, said(lambda found: _COMPARED[found["compared"] or ""])),
    ("either", EITHER, said(lambda found: "or")),
    ("bar", BAR, lambda reading, found: reading.mark(",")),
    ("arrow", ARROW, lambda reading, found: reading.mark(",")),
    ("factorial", FACTORIAL, said(lambda found: "factorial")),
    ("exponent", EXPONENT, said(_exponent)),
    ("coefficient", COEFFICIENT, _coefficient),
    ("minus", MINUS, _minus),
    ("star", TIMES, said(lambda found: "times")),
    ("over", OVER, said(lambda found: "over")),
    ("divided", DIVIDED, _divided),
    ("function", FUNCTION, _function),
    ("flag", FLAG, _flag),
    ("salt", SALT, lambda reading, found: reading.spell(found["salt"] or "")),
    ("squared_product", PRODUCT, lambda reading, found: reading.spell(found["product"] or "")),
    ("less_than", LESS_THAN, said(lambda found: _LESS_THAN[found["lessthan"] or "~"])),
    ("wild", WILD, said(lambda found: "point X")),
    ("slash_capitals", SLASH_CAPITALS, _slash_capitals),
)
PATTERNS = {"times": BY}
REPLACED: dict[str, tuple[str, Reader]] = {
    "power": (POWER, said(_power)),
    "markup": (MARKUP, lambda reading, found: None),
}
