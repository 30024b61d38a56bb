"""Places and days: states and zip codes, saints and streets, directions, months and weekdays without a full stop."""

from __future__ import annotations

import re

from csm_text.normalization import dates, numbers
from csm_text.normalization.everyday.talk import DAYS
from csm_text.normalization.found import Groups
from csm_text.normalization.reading import Reading
from csm_text.normalization.rules import Reader, said

_STATES = dict(
    pair.split("=")
    for pair in (
        "AL=Alabama AK=Alaska AZ=Arizona AR=Arkansas CA=California CO=Colorado CT=Connecticut DE=Delaware FL=Florida"
        " GA=Georgia HI=Hawaii ID=Idaho IL=Illinois IN=Indiana IA=Iowa KS=Kansas KY=Kentucky LA=Louisiana ME=Maine"
        " MD=Maryland MA=Massachusetts MI=Michigan MN=Minnesota MS=Mississippi MO=Missouri MT=Montana NE=Nebraska"
        " NV=Nevada NH=New_Hampshire NJ=New_Jersey NM=New_Mexico NY=New_York NC=North_Carolina ND=North_Dakota OH=Ohio"
        " OK=Oklahoma OR=Oregon PA=Pennsylvania RI=Rhode_Island SC=South_Carolina SD=South_Dakota TN=Tennessee"
        " TX=Texas UT=Utah VT=Vermont VA=Virginia WA=Washington WV=West_Virginia WI=Wisconsin WY=Wyoming DC=D_C"
    ).split()
)
_SHORT_STATES = dict(
    pair.split("=")
    for pair in (
        "Ala=Alabama Ariz=Arizona Calif=California Colo=Colorado Conn=Connecticut Fla=Florida Mass=Massachusetts"
        " Mich=Michigan Minn=Minnesota Okla=Oklahoma Ore=Oregon Tenn=Tennessee Tex=Texas Wis=Wisconsin"
    ).split()
)
_small = (
    "january|february|april|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov"
    "|dec"
)
_plain_months = f"{_small}|{_small.upper()}"
_words_too = "march|may|MARCH|MAY"  # "the top ten may win" is no date
_small_month = re.compile(
    rf"(?<![\w'-])(?:(?:{_plain_months}|{_words_too})(?=\.?\s(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
    r"(?![\w:%/]|[.,]\d|\s(?:[a-z]+s|km|mi|kg|hour|percent|times)\b))"
    rf"|(?:(?<=\d\s)|(?<=\d(?:st|nd|rd|th)\s))(?:{_plain_months}"
    rf"|(?:{_words_too})(?=\s*(?:[.,;:!?)]|$)|\s(?:(?:19|20)\d\d|at|from|to|until)\b)))(?![\w'-])"
)
_figure, _joined = re.compile(r"\d"), re.compile("[-–/&]")
_small_days = re.compile(
    r"(?<![\w'-])(?:mon|tue|tues|wed|thu|thurs|fri|sat|sun)(?:\s?[-–/&]\s?(?:tue|wed|thu|thurs|fri|sat|sun)\b)+"
)
_COMPASS = {"N": "north", "S": "south", "E": "east", "W": "west"}
_COMPASS |= {"NE": "northeast", "NW": "northwest", "SE": "southeast", "SW": "southwest"}
_WAYS = {"Ct": "court", "Pl": "place", "Ter": "terrace", "Cir": "circle", "Pkwy": "parkway", "Fwy": "freeway"}
_WAYS |= {"Dr": "drive", "Sq": "square", "Terr": "terrace", "Plz": "plaza", "Trl": "trail", "Hts": "heights"}
_states = "|".join(_STATES)
_short_months = "Feb|Aug|Sept|Oct|Nov|Dec|Jan(?=\\.)"
_days = "|".join(sorted(DAYS, key=len, reverse=True))
_days_before = "|".join(f"(?<={day} {joined} )" for day in DAYS for joined in ("to", "through", "thru", "and"))
_DAY_GROUPS = ("day", "onday", "secondday", "firstday", "daybefore")
_whole_days = "|".join(dict.fromkeys(DAYS.values()))

STATE = (
    rf"(?<=[a-z],\s)(?P<state>{_states})(?:(?=\s\d{{5}}(?![\d,]))|(?<!(?:OK|HI|OH|ME))(?=\s*(?:[.,;:?)]|$)"
    r"|\s(?:to|in|is|and|or|on|at|from|for|was|with|has|near|by|will)\b))"
    rf"|(?:(?<=[A-Za-z]\s)|(?<=[A-Z],\s))(?P<zipstate>{_states})(?=\s\d{{5}}(?![\d,]))"
    rf"|(?<=\([DRI]-)(?P<senatestate>{_states}|{'|'.join(_SHORT_STATES)})(?:\.|(?=\)))"
    rf"|(?<=[a-z],\s)(?P<shortstate>{'|'.join(_SHORT_STATES)})\.(?P<stateend>(?=\s*$))?"
)
ZIP = r"(?<=[A-Z]{2}\s)(?P<zip>\d{5})(?:-(?P<zipmore>\d{4}))?(?![\d,-])"
SAINT = r"(?<![A-Za-z0-9'])(?P<saint>St|Dr(?!\.))(?P<saintstop>\.?)\s(?=[A-Z][a-z])"
BEARING = r"(?:(?<=°)|(?<=°\s))(?P<bearing>[NSEW])(?![A-Za-z0-9'])"
DIRECTION = (
    r"(?:(?<=\d\s)|(?<=\b[Oo]n\s)|(?<=\bonto\s)|(?<=\b[Aa]t\s)|(?<=\bto\s)|(?<=\bof\s)|(?<=\band\s)|(?<=&\s)|(?<=near\s)|(?<=tween\s)|^)"
    r"(?P<compass>N[EW]|S[EW]|[NSEW])\.?\s"
    r"(?=[A-Z0-9][A-Za-z0-9]{1,15}\s(?:St|Ave|Rd|Blvd|Dr|Ln|Way)\b)"
)
WAY = (
    r"(?=[CPTFDSH])(?<=[a-z]\s)(?P<roadkind>Ct|Plz|Pl|Terr|Ter|Trl|Hts|Cir|Pkwy|Fwy|Dr|Sq)"
    r"(?P<roadstop>\.?)(?![A-Za-z0-9'])"
)
ROAD = (
    r"(?<![A-Za-z0-9])(?P<road>I-|US-|US |Hwy |Route )(?P<roadnumber>\d{1,3})\s?"
    r"(?P<roadway>[NSEW])(?![A-Za-z0-9'-]|\.[A-Za-z])"
)
THE_SUN = r"(?<=[Tt]he\s)Sun(?P<thesun>)(?=\.)"
DAY = (
    r"(?<![A-Za-z0-9'])(?P<day>Fri|Tues|Weds|Thurs|Thur|Thu)(?![A-Za-z0-9'.-])"
    r"|(?:(?<=\bon )|(?<=\bby )|(?<=next )|(?<=last )|(?<=this )|(?<=until ))(?P<onday>Mon|Tue|Wed|Sat|Sun)"
    r"(?=\s*(?:[,;:!?)]|$)|\s(?:at|and|or|to|from|the|for|\d))"
    rf"|(?=[MTWFS])(?:{_days_before})(?P<secondday>{_days})(?![A-Za-z0-9'])"
    rf"|(?<![A-Za-z0-9'])(?P<firstday>{_days})(?=\s(?:to|through|thru|and)\s(?:{_days})(?![A-Za-z]))"
    r"|(?<![A-Za-z0-9'])(?P<daybefore>Mon|Tue|Wed|Sat|Sun)(?=\s(?:morning|afternoon|evening|night|at)\b|,\s[A-Z][a-z]{2,8}\.?\s\d)"
)
DAY_DATE = (
    rf"(?<![A-Za-z0-9'])(?P<dateday>{_whole_days}|{_days})\.?,?\s"
    r"(?P<datemonth>0?[1-9]|1[0-2])/(?P<datenumber>0?[1-9]|[12]\d|3[01])(?![\w/]|\.\d)"
)
TIMED_DATE = (
    r"(?<![\w/.,-])(?:(?<=eadline: )|(?<=[Dd]ue: )|(?<=[Dd]ate: )|(?<=[Ww]hen: )|(?=\S{3,5},?\s(?:at|@)\s\d|\S{3,5},?"
    r"\s\d{1,2}(?::\d\d)?\s?[aApP]\.?[mM]))(?P<timedmonth>0?[1-9]|1[0-2])/(?P<timedday>0?[1-9]|[12]\d|3[01])(?![\w/]|\.\d)"
)
_no_part = r"(?:7|9|11|1[34579]|18|2\d|3[01])(?!\d)"  # days that are hardly the lower number of a fraction
LONE_DATE = (
    r"(?<![\w/.,$€£+-])(?:(?P<lonemonth>0?[1-9]|1[0-2])/(?P<loneday>1[34789]|2[1236789]|31)|(?P<lastmonth2>12)/(?P<lastday2>2[45])"
    r"|(?P<shortmonth2>0?[469]|11)/(?P<shortday2>30))"
    r"(?=\s?[,;:!?)]|\.(?!\d)|\s*$|\s(?:at|@|from|through|thru|meeting|game|deadline|was|is)\b)"
)
DATES_JOINED = (
    rf"(?<![\w/.,-])(?=\d\d?/{_no_part}|\d\d?/\d\d?\s?[-–]\s?\d\d?/{_no_part})"
    r"(?P<monthone>0?[1-9]|1[0-2])/(?P<dayone>0?[1-9]|[12]\d|3[01])\s?[-–]\s?"
    r"(?P<monthtwo>0?[1-9]|1[0-2])/(?P<daytwo>0?[1-9]|[12]\d|3[01])(?![\w/\"]|\.\d)"
)
DAYS_JOINED = rf"(?<![A-Za-z0-9'])(?P<wholeday>{_whole_days})\s?[-–]\s?(?=(?:{_whole_days})(?![A-Za-z]))"
MONTH = (
    rf"(?<![A-Za-z0-9'])(?P<month>{_short_months})(?!\.?,?\s['\d])(?:(?![A-Za-z0-9'.-])|\.(?![A-Za-z])(?P<monthend>(?=\s*$))?)"
    r"|(?<![A-Za-z0-9'])(?P<monthbefore>Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|January|February|March|April|May"
    r"|June|July|August|September|October|November|December)\.?,?\s'(?P<monthyear>\d\d)(?![\d'])"
)
DAY_MONTH_YEAR = (
    r"(?<![\w-])(?P<hyphenday>[12]\d|3[01]|0?[1-9])-(?P<hyphenmonth>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)"
    r"-(?P<hyphenyear>\d{4})(?![\w-])"
)
MONTH_FIRST = (
    r"(?<![\w-])(?P<joinedmonth>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)"
    r"-(?P<joinedday>[12]\d|3[01]|0?[1-9])(?:-(?P<joinedyear>(?:19|20)\d\d))?(?![\w-])"
)
FIGURE_DATE = (
    r"(?<![\w/-])(?:(?P<usmonth>0?[1-9]|1[0-2])-(?P<usday>0?[1-9]|[12]\d|3[01])-(?P<usyear>(?:19|20)\d\d)"
    r"|(?P<firstday2>1[3-9]|2\d|3[01])-(?P<secondmonth>0[1-9]|1[0-2])-(?P<lastyear>(?:19|20)\d\d)"
    r"|(?P<bigyear>(?:19|20)\d\d)/(?P<bigmonth>0?[1-9]|1[0-2])/(?P<bigday>0?[1-9]|[12]\d|3[01]))(?![\w/-])"
)
_BEFORE_STREET = re.compile(
    r"(?<![A-Za-z])(?!(?:In|At|The|To|From|Near|On|And|Our|Of|For|Via|By|With|Visit|Saint|Into|Around|Is|Was|See)\s$)"
    r"[A-Z][a-z']*\s$|\d(?:st|nd|rd|th)\s$"
)


def prepared(text: str) -> str:
    """The text with capitals for months beside a day, "july 25", and for weekdays beside another, "mon-fri"."""
    if _figure.search(text):
        text = _small_month.sub(lambda match: match[0].capitalize(), text)
    return _small_days.sub(lambda match: match[0].title(), text) if _joined.search(text) else text


def _state(reading: Reading, found: Groups) -> None:
    """The name of a state after a place: "Austin, TX". Without a zip code, OK, HI, OH and ME are read as words."""
    if found["senatestate"]:
        reading.say((_STATES | _SHORT_STATES)[found["senatestate"]].replace("_", " "))
        return
    if found["zipstate"]:
        reading.say(_STATES[found["zipstate"]].replace("_", " "))
        return
    if not re.search(r"[A-Z][a-z']+,\s$", reading.before(30)):
        reading.word(found["state"] or found["shortstate"] or "")
        return
    name = _STATES[found["state"]] if found["state"] else _SHORT_STATES[found["shortstate"] or ""]
    reading.say(name.replace("_", " "))
    if found["stateend"] is not None:
        reading.mark(".")


def _zip(reading: Reading, found: Groups) -> None:
    code, more = found["zip"] or "", found["zipmore"]
    reading.say(numbers.by_digit(code) if reading.before(3)[:2] in _STATES else numbers.cardinal(code))
    if more:
        reading.say(f", {numbers.by_digit(more)}")


def _saint(reading: Reading, found: Groups) -> None:
    """ "St. Louis" is a saint, "Elm St. Then" a street; "Dr Smith" a doctor, "Elm Dr Apt 4" a drive."""
    person, way = ("saint", "street") if found["saint"] == "St" else ("doctor", "drive")
    if not _BEFORE_STREET.search(reading.before(40)):
        reading.say(person)
    else:
        reading.say(way)
        if found["saintstop"]:
            reading.mark(".")


def _way(reading: Reading, found: Groups) -> None:
    """A street after a number and a name, "10 Oak Dr"; "drive" also for "Dr." after a name and before none."""
    kind, stop, before = found["roadkind"] or "", found["roadstop"], reading.before(60)
    named = re.match(r"\s[A-Z]", reading.after(2)) is not None
    unnumbered = kind == "Dr" and stop and not named and re.search(r"[A-Z][a-z']+\s$", before)
    if unnumbered or re.search(r"\d[A-Za-z]?\s(?:[A-Z]\w*\.?\s){1,3}$", before):
        reading.say(_WAYS[kind])
    elif kind == "Dr":
        reading.say("doctor")
        return
    else:
        reading.word(kind)
    if stop and (named or not reading.after(4).strip()):
        reading.mark(".")


def _road(reading: Reading, found: Groups) -> None:
    for word in re.findall("[A-Za-z]+", found["road"] or ""):
        reading.word({"Hwy": "highway"}.get(word, word))
    reading.say(f"{numbers.cardinal(found['roadnumber'] or '0')} {_COMPASS[found['roadway'] or '']}")


def _day(found: Groups) -> str:
    return DAYS[next(found[name] or "" for name in _DAY_GROUPS if found[name])]


def _month(reading: Reading, found: Groups) -> None:
    reading.say(dates.month(found["month"] or found["monthbefore"]))
    if found["monthyear"]:
        reading.say(numbers.two_digits(found["monthyear"]))
    elif found["monthend"] is not None:
        reading.mark(".")


def _day_month_year(found: Groups) -> str:
    parts = {"eday": found["hyphenday"], "ename": found["hyphenmonth"], "eyear": found["hyphenyear"]}
    return dates.day_month(parts)


def _month_first(found: Groups) -> str:
    return dates.month_day({"mname": found["joinedmonth"], "mday": found["joinedday"], "myear": found["joinedyear"]})


def _figure_date(found: Groups) -> str:
    month = found["usmonth"] or found["bigmonth"] or found["secondmonth"]
    day = found["usday"] or found["bigday"] or found["firstday2"]
    year = found["usyear"] or found["bigyear"] or found["lastyear"]
    return dates.iso_date({"imonth": month, "iday": day, "iyear": year})


def _month_and_day(month: str | None, day: str | None) -> str:
    return dates.iso_date({"imonth": month, "iday": day, "iyear": None}).strip()


def _day_date(found: Groups) -> str:
    day = found["dateday"] or ""
    return f"{DAYS.get(day, day)}, {_month_and_day(found['datemonth'], found['datenumber'])}"


def _lone_date(found: Groups) -> str:
    """ "12/31." is a date: fractions and scores rarely have such a lower number."""
    return next(
        _month_and_day(found[month], found[day])
        for month, day in (("lonemonth", "loneday"), ("lastmonth2", "lastday2"), ("shortmonth2", "shortday2"))
        if found[month]
    )


def _dates_joined(found: Groups) -> str:
    first, last = (_month_and_day(found[f"month{which}"], found[f"day{which}"]) for which in ("one", "two"))
    return f"{first} to {last}"


RULES: tuple[tuple[str, str, Reader], ...] = (
    ("state", STATE, _state),
    ("zip", ZIP, _zip),
    ("day_month_year", DAY_MONTH_YEAR, said(_day_month_year)),
    ("month_first", MONTH_FIRST, said(_month_first)),
    ("figure_date", FIGURE_DATE, said(_figure_date)),
    ("road", ROAD, _road),
    ("way", WAY, _way),
    ("the_sun", THE_SUN, said(lambda found: "sun")),
    ("direction", DIRECTION, said(lambda found: _COMPASS[found["compass"] or ""])),
    ("saint", SAINT, _saint),
    ("bearing", BEARING, said(lambda found: _COMPASS[found["bearing"] or ""])),
    ("day_date", DAY_DATE, said(_day_date)),
    ("timed_date", TIMED_DATE, said(lambda found: _month_and_day(found["timedmonth"], found["timedday"]))),
    ("lone_date", LONE_DATE, said(_lone_date)),
    ("dates_joined", DATES_JOINED, said(_dates_joined)),
    ("days_joined", DAYS_JOINED, said(lambda found: f"{found['wholeday']} to")),
    ("day", DAY, said(_day)),
    ("month", MONTH, _month),
)
