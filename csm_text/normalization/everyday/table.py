"""The rules of version 2 in order of precedence, and which of them may begin at which kind of character.

RULES_2 has the same form as `rules.RULES`. RULES_AT groups it by the kind of a match's first character, so that fewer
rules are tried at each position. A test asserts that both read the same.
"""

from __future__ import annotations

from csm_text.normalization.everyday import (
    capitals,
    chat,
    figures,
    layout,
    places,
    prices,
    products,
    shortened,
    sizes,
    talk,
    technical,
)
from csm_text.normalization.rules import RULES, Reader, as_words

Rule = tuple[str, str, Reader]

# Short words in small letters. Between two others like it, such a word cannot begin a match of any other rule.
_SHORT = (
    "the|and|of|to|is|it|for|you|are|was|not|but|can|has|had|his|her|she|he|we|as|or|if|so|my|an|be|do|up|out|our|its"
)
PLAIN = (
    rf"(?:(?<=\s)|^)(?![ivxlc]+\s)(?P<plain>[a-z]{{4,20}}|{_SHORT}|The|This|That|It|He|She|We|They)"
    r"(?=,?\s(?![ivxlc]+(?![a-z]))[a-z]{2})"
)
# Names of rules whose matches begin only at a letter, only at a digit, and so on. Rules in no set may begin anywhere.
_LETTER = frozenset(
    (
        "plain url road the_sun scaled_unit contraction days_of_month weekdays weekday months drip before_figure"
        " release end_of_sentence degree degree_letters figured anywhere shortened untitled et_al versus circa"
        " century suffix species state day days_joined month capital_word shouted letter_range grade letter_a"
        " article long_numeral reign century_th saint direction net fiscal model slash_capitals function"
        " code_before counted unit_alone short_date month_day month_year short_month era_year degree_scale doctor"
        " latin pair initials phone_extension area way nth_minute month_first verse rank the_who mail_subject"
        " code_again bearing day_date per_unit named_release slashed letter_point abbreviation salt squared_product"
        " resume point_model initial numeral king roman language word"
    ).split()
)
_CAPITAL = frozenset(  # those of _LETTER that begin only at a capital
    (
        "the_sun contraction days_of_month weekdays weekday months drip before_figure degree degree_letters untitled"
        " suffix species state day days_joined month capital_word shouted letter_range grade letter_a reign century_th"
        " saint direction net fiscal slash_capitals month_day month_year short_month degree_scale pair way month_first"
        " verse rank the_who mail_subject code_again bearing day_date letter_point salt initial king roman language"
        " road"
    ).split()
)
_FIGURE = frozenset(
    (
        "slash_date time hour spaced money_after cents feet multiple scaled ordinal ratio times number fraction"
        " year_range digits range size inches inch_part inches_beside height degrees times_range crowd duration"
        " short_duration half_of_day code_after pence lines groups exponent coefficient figure_date day_month_year"
        " zip code seconds millions rating scored pages emergency hour_range point_range measure_range part_of_unit"
        " hundreds spoons lasting odds lone_date before_time status clock series timed_date dates_joined"
        " short_hours military old_year record bits standard aircraft door area_code another_release calendar"
        " season iso_date hex_number short_code serial even inch_range"
    ).split()
)
_SIGN = frozenset(
    (
        "phones sign possessed power heading paragraph dots dash mark bracket markup symbol short_year menu money_range"
        " point_measure tenths port compared either arrow factorial minus star over divided times_per wild"
        " either_amount flag less_than order_number ending tag tag_number handle dollar_again path called_on until_now"
        " star_code from_noon average number_tag bar per_hundred"
    ).split()
)
_LETTER_OR_FIGURE = frozenset("mail mixed chat spoken_as file short_address dotted before_release".split())
_FIGURE_OR_SIGN = frozenset("decade phone temperature measure percent decimal degree_range".split())
_LETTER_OR_SIGN = frozenset(("money times_money dotted_name emoticon age number_of").split())
_REPLACED = {
    **{name: (pattern, None) for name, pattern in (talk.PATTERNS | technical.PATTERNS).items()},
    **shortened.REPLACED,
    **sizes.REPLACED,
    **prices.REPLACED,
    **technical.REPLACED,
    **figures.REPLACED,
    **capitals.REPLACED,
    **products.REPLACED,
    **chat.REPLACED,
}
_FIRST = ("phones", "mail", "url")  # rules that precede those of this folder
_ADDED: tuple[Rule, ...] = (
    *technical.RULES,
    *products.RULES,
    *figures.RULES,
    *places.RULES,
    *shortened.RULES,
    *capitals.RULES,
    *talk.RULES,
    *chat.RULES,
    *prices.RULES,
    *sizes.RULES,
)


def _replaced(rule: Rule) -> Rule:
    name, pattern, read = rule
    if name not in _REPLACED:
        return rule
    new_pattern, new_read = _REPLACED[name]
    return name, new_pattern, new_read or read


def _without(excluded: frozenset[str]) -> tuple[Rule, ...]:
    return tuple(rule for rule in RULES_2 if rule[0] not in excluded)


RULES_2: tuple[Rule, ...] = (
    ("plain", PLAIN, chat.word("plain")),
    *(_replaced(rule) for rule in RULES if rule[0] in _FIRST),
    ("short_address", technical.SHORT_ADDRESS, as_words("shortaddress")),
    *(_replaced(rule) for rule in RULES if rule[0] == "domain"),
    *_ADDED,
    *(_replaced(rule) for rule in RULES if rule[0] not in (*_FIRST, "domain")),
)
RULES_AT = {
    "small": _without(_FIGURE | _SIGN | _FIGURE_OR_SIGN | _CAPITAL),
    "letter": _without(_FIGURE | _SIGN | _FIGURE_OR_SIGN),
    "figure": _without(_LETTER | _SIGN | _LETTER_OR_SIGN),
    "sign": _without(_LETTER | _FIGURE | _LETTER_OR_FIGURE),
}


def prepared(text: str) -> str:
    """The text with its layout as marks, and with words for signs that `scripts.plain` would drop or change."""
    return chat.prepared(
        talk.prepared(shortened.prepared(technical.prepared(prices.prepared(places.prepared(layout.laid_out(text))))))
    )
