"""Everyday texts: what `english-phonemes-2` reads differently from `english-phonemes-1`.

table.py has both entry points:

    prepared  rewrites layout and signs before `scripts.plain` would drop them
    RULES_2   the rules of this folder, then those of rules.py, some of them replaced

A module's RULES are new rules; its REPLACED and PATTERNS replace rules of the same name. Each is right more often than
not: "the part I like" has no Roman numeral, "DON'T" is not spelled, "5-7pm" is a range, "main.py" does not end a
sentence, "12' x 15'" is a size.
"""
