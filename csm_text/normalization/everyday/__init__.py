"""What `english-phonemes-2` reads otherwise than `english-phonemes-1`: rules of everyday texts.

    prepared  the text before other characters are resolved: its layout, signs that plain letters would lose
    RULES_2   the table of rules.py, some of its rules replaced, with the rules of this folder before the others

Each rule is right more often than not: "the part I like" is no first part, "DON'T" is no three letters, "5-7pm" is a
range, "main.py" is no end of a sentence, "12' x 15'" is a size.
"""
