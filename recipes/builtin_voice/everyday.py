"""Everyday talk from templates: questions, requests, names, dates, times, money, figures, short answers, small talk.

A template's slots are filled with words of its own lists, with WordNet's common words and names, and with figures in
words (spoken.py). It knows no audio.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from recipes.builtin_voice.spoken import DAYS, MONTHS, Figures
from recipes.builtin_voice.wordnet import WordNet

PEOPLE = (
    "James Mary John Patricia Robert Jennifer Michael Linda William Elizabeth David Barbara Richard Susan Joseph"
    " Jessica"
    " Thomas Sarah Charles Karen Daniel Nancy Matthew Lisa Anthony Betty Mark Margaret Donald Sandra Steven Ashley Paul"
    " Kimberly Andrew Emily Joshua Donna Kenneth Michelle Kevin Carol Brian Amanda George Melissa Edward Deborah Ronald"
    " Stephanie Timothy Rebecca Jason Laura Jeffrey Sharon Ryan Cynthia Jacob Kathleen Gary Amy Nicholas Angela Eric"
    " Shirley Jonathan Anna Stephen Ruth Larry Brenda Justin Pamela Scott Nicole Brandon Catherine Benjamin Samantha"
    " Samuel Christine Frank Emma Gregory Helen Raymond Rachel Alexander Maria Patrick Heather Jack Diane Dennis Julie"
    " Jerry Joyce Tyler Victoria Aaron Kelly Henry Christina Jose Joan Adam Evelyn Douglas Judith Nathan Olivia Peter"
    " Alice Oliver Clara Simon Martin Sophie Lucy Felix Hannah Max Julia Leo Nina Oscar Ivan Vera Walter Rosa Hugo"
    " Grace"
).split()
SURNAMES = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Wilson Anderson Taylor Thomas Moore"
    " Jackson Martin Lee Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green"
    " Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Phillips Evans Turner Parker Collins Edwards"
    " Stewart Morris Murphy Cook Rogers Morgan Cooper Peterson Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood"
    " Watson Brooks Bennett Gray James Hughes Price Myers Long Foster Sanders Ross Powell Sullivan Russell Fisher Ford"
    " Hamilton Graham Wallace West Cole Hayes Bryant Ellis Stevens Murray Marshall Owens McDonald Harrison Kennedy"
    " Wells"
).split()
LISTS: dict[str, list[str]] = {
    name: [word.strip() for word in words.split(",")]
    for name, words in {
        "title": "Mister, Missus, Miss, Doctor, Professor, Captain, Aunt, Uncle, Judge, President",
        "who": "my mother, my father, my sister, our neighbor, the teacher, the doctor, my boss, her husband, his wife,"
        " their son, my friend, the driver, a colleague, the manager, our daughter, the police, somebody, nobody,"
        " everyone, the children, my parents, the waiter, the nurse, a student, the landlord, my cousin, the boy,"
        " a woman, the old man, the girl next door, people, your brother, the captain, the secretary",
        "place": "station, airport, hospital, library, museum, hotel, restaurant, post office, bank, school,"
        " university,"
        " pharmacy, supermarket, bakery, park, beach, harbor, theater, cinema, church, bus stop, police station,"
        " office,"
        " garden, swimming pool, market, city hall, gas station, parking lot, cafe, gym, stadium, castle, zoo, factory",
        "food": "coffee, tea, bread, cheese, soup, chicken, rice, salad, fish, pasta, an apple, orange juice,"
        " chocolate,"
        " ice cream, water, milk, a sandwich, potatoes, tomatoes, an omelet, pancakes, red wine, beer, lemonade, honey,"
        " vegetables, strawberries, mushrooms, onions, garlic, butter, olive oil, a piece of cake, cereal, sausages",
        "thing": "the keys, my phone, the bill, a ticket, the newspaper, my glasses, an umbrella, the map, a pen, the"
        " suitcase, the door, the window, the light, the car, the computer, the dishes, my wallet, the letter, a chair,"
        " the radio, the oven, the bicycle, a blanket, the heating, the camera, that picture, the box, the remote"
        " control, my jacket, these shoes, the towels, the printer, the alarm clock, the medicine, a receipt, the menu",
        "do": "open the window, call a taxi, wait for the bus, cook dinner, go for a walk, learn a language, buy a"
        " house,"
        " clean the kitchen, write an email, fix the roof, pay the rent, read the instructions, take a shower, feed the"
        " dog, play the piano, watch a movie, wash the car, meet some friends, visit the museum, find a job, plant some"
        " trees, drive to work, make a cake, paint the wall, sleep late, sign the contract, cross the street, change"
        " the date, cancel the order, take the train, ride a horse, answer the phone, ask a question, leave early,"
        " send a message, set the table, turn around, check the oil, borrow some money, throw it away, tell the truth,"
        " come back later, listen to music, do the laundry, eat something, bring a friend, stay a little longer",
        "doing": "waiting, working, sleeping, reading, cooking, laughing, looking for it, writing a book, watching the"
        " news, getting ready, learning to drive, talking on the phone, moving to another city, having breakfast,"
        " thinking about it, listening, trying to help, making dinner, coming home, going to the doctor, doing fine",
        "did": "forgot about it, lost the game, came home late, broke the window, found a new job, took the wrong bus,"
        " bought a car, went to bed, fell asleep, had a good time, won a prize, missed the train, told me everything,"
        " called the police, wrote a letter, ate too much, left an hour ago, drank all the milk, made a mistake, got up"
        " early, saw a ghost, sold the house, caught a cold, met her at a party, spoke too fast, threw the ball, sang"
        " a song, built a boat, paid for it, gave it back, ran away, felt better, said nothing, knew the answer",
        "feel": "happy, tired, hungry, thirsty, sorry, glad, sick, busy, late, ready, afraid, angry, bored, sure, cold,"
        " proud, surprised, worried, excited, lonely, nervous, confused, disappointed, grateful, lucky, curious",
        "quality": "good, bad, big, small, old, new, expensive, cheap, beautiful, difficult, easy, interesting, boring,"
        " dangerous, important, strange, funny, heavy, loud, quiet, clean, dirty, warm, cold, fresh, broken, empty,"
        " full, long, short, wonderful, terrible, delicious, comfortable, dark, bright, useful, closed, fast, slow",
        "when": "today, tomorrow, yesterday, tonight, this morning, this afternoon, next week, last night, next month,"
        " last year, on the weekend, every day, right now, in a minute, soon, later, as usual, in the summer, in"
        " winter,"
        " after work, before lunch, at noon, at midnight, the day after tomorrow, two weeks ago, once a week, all day",
        "weather": "raining, snowing, sunny, cloudy, windy, freezing, foggy, hot, cold, humid, warm, dry, wet, stormy",
        "color": "red, blue, green, yellow, black, white, brown, gray, orange, purple, pink",
        "ask": "Could you tell me, Do you know, Can anyone tell me, I would like to know, I have no idea, Do you"
        " remember, I wonder, Nobody knows, Please tell me, May I ask, She asked me, Let me check, I forgot",
        "polite": "Please, Could you, Would you, Can you, Will you, Could you please, Would you please",
        "can": "can, could, must, should, will, would, might, cannot, should not, will not, may, could not, would not",
        "open": "Well, So, Yes, No, Okay, Actually, I think, Maybe, Sorry, Of course, You know, Anyway, Look, Oh,"
        " However,"
        " By the way, To be honest, In fact, I am afraid, I guess, Unfortunately, Fortunately, First, Then, Finally",
        "tag": "is it, do you think, right, don't you, please, thank you, I think, you know, of course, my friend, sir,"
        " madam, or not, then, again, too, as well, at all, for me, for us, if you like, if you can",
        "short": "Yes. No. Maybe. Okay. Sure. Thanks. Hello. Goodbye. Please. Sorry. Really? Why? Why not? When? Where?"
        " Who? How? What? Never. Always. Sometimes. Exactly. Right. Wrong. Stop. Wait. Help. Listen. Perfect. Great."
        " Absolutely. Definitely. Certainly. Nothing. Everything. Tomorrow. Good. Bad. Fine. Welcome. Cheers. Hi."
        " Good morning. Good night. See you. Thank you. No problem. Not yet. I see. Me too. Come in. Let's go."
        " I don't know. I'm sorry. That's right. It's okay. You're welcome. Don't worry. What's that? Who's there?",
    }.items()
}
LISTS["short"] = re.findall(r"[^.?]+[.?]", LISTS["short"][0].replace(". ", ".").replace("? ", "?"))
TEMPLATES = """
{ask} where the {place} is{end}
{ask} how to get to the {place} from {town}{end}
{ask} what time the {place} opens {when}{end}
{ask} how much {thing} costs{end}
{ask} why {who} {did}{end}
{ask} when {who} will {do}{end}
{ask} if {who} {did} {when}{end}
{ask} whether we {can} {do}{end}
{ask} who {did}{end}
{polite} {do}{end}
{polite} bring {thing} to {person}{end}
{polite} not {do} {when}.
{polite} put {thing} next to {thing}.
Where is {thing}?
Where can I find {thing}?
Where is the nearest {place}, {tag}?
Where did {who} put {thing}?
What time does the {place} close on {day}?
What is the {adjective} {noun} for?
What did {who} say about {thing}?
What would you like, {food} or {food}?
What happened to {thing} {when}?
When is your {noun} due?
When did {who} {do}?
Why is {thing} so {quality}?
Why don't we {do} {when}?
Who is the {adjective} {noun} in the {noun}?
Who left {thing} at the {place}?
Which {noun} do you prefer, the {color} one or the {color} one?
How was the {noun} {when}?
How many {plural} are there in the {noun}?
How much is {thing}, {tag}?
How long does it take to {do}?
How do you {do}?
Is {thing} {quality} or {quality}?
Is it {weather} in {town} {when}?
Are you {feel}, or just {feel}?
Are we {doing}?
Have you ever seen {a_adjective} {noun}?
Have you been to {name}?
Did you {do} {when}?
Did {person} {do}?
Do you want {food}?
Do they {do} {when}?
Does {who} {do}?
Can I have {food} with {food}, please?
Can we {do} {when}?
Would you like to {do} with {person}?
Should I {do} or {do}?
Isn't it {quality}?
Don't you {do} {when}?
Weren't they {doing}?
I am {feel} because {who} {did}.
I am {doing}, so I {can} {do}.
I'm {doing} {when}.
I've {did_not} since {date}.
I'll {do} {when}.
I'd like {food} and {food}, please.
I {can} {do} {when}.
I don't want to {do}.
I didn't {do} because it was {weather}.
I have to {do} before {time}.
I would like to {do}, {tag}.
I lost {thing} at the {place} {when}.
I need {a_adjective} {noun} and {number} {plural}.
I saw {a_adjective} {noun} near the {place}.
I think that {who} {did}.
I hope it isn't {weather} {when}.
You {can} {do}, but {who} {did}.
You're {feel}, aren't you?
We're {doing} at the {place}.
We {did} {when}.
We {can} {do} if it is {weather}.
We've got {number} {plural} and {number} {plural}.
He {did} and {who} {did}.
She {can} {do}, because she is {feel}.
They're {doing}, and {who} {did}.
It's {weather} {when}, {tag}.
It is {quality}, but not {quality}.
It was {a_adjective} {noun} with {a_adjective} {noun}.
That's the {adjective} {noun} of {who}.
There is {a_adjective} {noun} in the {noun}.
There are {number} {plural} in the {noun}.
There were {number} people at the {place} {when}.
This {noun} is more {adjective} than that {noun}.
The {noun} and the {noun} are {quality}.
The {adjective} {noun} {did_it} the {noun}.
The {noun} of the {noun} was {adjective}.
The {place} is closed on {day}.
The {color} {noun} is {quality}, {tag}.
My {noun} is {quality}.
Your {noun} isn't {quality} enough.
Their {plural} were {adjective} {when}.
{Who} {did} {when}.
{Who} {can} {do} {when}.
{Who} is {doing}.
{Who} {did}, so we {can} {do}.
{Who} said that {who} {did}.
{Open}, {who} {did}.
{Open}, the {noun} is {quality}.
{Open}, let's {do}.
{Open}, I {can} {do}.
Don't {do}, {tag}.
Let me {do} first.
Take {food} and {food}, and {do}.
Add {number} {plural} and wait {number} minutes.
Turn left at the {place}, then go straight to the {place}.
Press the {color} button to open the {noun}.
First {do}, then {do}, and finally {do}.
If you are {feel}, {do}.
If it is {weather} {when}, we {can} {do}.
When {who} {did}, it was {weather}.
After {time} you {can} {do}.
My name is {person}{end}
My name is {person} {surname}, and I come from {town}.
This is {person} {surname} speaking.
Hello, {person}, this is {person}.
Good {part}, {title} {surname}.
{title} {surname} {can} see you {when}.
{title} {surname} {did} {when}.
{person} and {person} live in {town}.
{person} {did} with {person} {when}.
{person}'s {noun} is {quality}.
{person} {surname} was born in {town} on {date}.
{person} works for {title} {surname} at the {place}.
Have you met {person} {surname}?
Is {person} {doing}?
Please call {person} at {phone}.
Tell {person} that {person} {did}.
We flew from {town} to {town} {when}.
The train from {name} to {name} leaves at {time}.
{name} is the {noun} of {name}.
{name} and {name} are {adjective}.
He read about {name} in {name}.
Have you heard of {name}?
The {noun} of {name} is {adjective}.
{name}, {name}, and {name}.
The meeting is on {date} at {time}.
The {noun} starts at {time}{end}
See you at {time} on {day}.
Wake me up at {time}.
It is {time}.
It's {time} now, and the {place} is {quality}.
Today is {date}.
The {place} opened in {year}.
In {year}, {who} {did}.
In {year} there were {number} {plural}.
Between {year} and {year} the {noun} was {adjective}.
Your appointment is on {date}.
From {month} to {month} the {place} is closed.
The bus comes every {small} minutes until {time}.
The {place} is open from {time} to {time}.
It costs {money}.
The {noun} costs {money}, {tag}.
That will be {money}, please.
I paid {money} for {a_adjective} {noun}.
They owe us {money} and {money}.
The {noun} is {quantity} long.
It weighs {quantity}.
It is {quantity} to the {place}.
We need {quantity} of {food}.
She is {small} years old, and he is {small}.
About {small} percent of the {plural} are {adjective}.
{small} percent, {point} percent.
The temperature is {small} degrees in {name}.
Chapter {small}, page {number}.
Room {number} is on the {nth} floor.
Platform {small}, please.
Take bus number {small} to {town}.
The score was {small} to {small}.
He lives at {number} {surname} Street.
My phone number is {phone}.
Call {phone} for help.
The code is {phone}.
The number is {number}.
{number} plus {number} is {number}.
{number}, {number}, {number}.
One, two, three, {small}.
The {nth} of {month} is a {day}.
On the {nth} try, {who} {did}.
The {nth} {noun} was {adjective}.
She finished {nth} in the race.
The answer is {point}.
Only {number} of {number} {plural} were {adjective}.
It happened {number} years ago.
{letters} stands for {a_adjective} {noun}.
He works for the {letters} in {town}.
Spell it: {letters}.
{short}
{short} {short}
{short} {open2}, I {can} {do}.
{short} The {noun} is {quality}.
Thank you for {thing}, {person}.
Excuse me, is this {thing}?
Nice to meet you, {person}.
How are you {when}?
Happy birthday, {person}!
What a {quality} {noun}!
How {quality}!
""".strip().splitlines()

Slots = dict[str, Callable[[], str]]


class Everyday:
    """Draws sentences without end."""

    def __init__(self, random: np.random.Generator, wordnet: WordNet) -> None:
        self._random, self._wordnet = random, wordnet
        figures = Figures(random)
        own: Slots = {
            "end": lambda: self._one([".", "?", ".", ", please."]),
            "person": lambda: self._one(PEOPLE),
            "surname": lambda: self._one(SURNAMES),
            "name": lambda: self._one(wordnet.names),
            "town": lambda: self._one(wordnet.names),
            "day": lambda: self._one(DAYS),
            "month": lambda: self._one(MONTHS),
            "part": lambda: self._one(["morning", "evening", "afternoon", "night", "day"]),
            "noun": lambda: self._one(wordnet.nouns),
            "plural": lambda: _plural(self._one(wordnet.nouns)),
            "adjective": lambda: self._one(wordnet.adjectives),
            "a_adjective": lambda: _with_article(self._one(wordnet.adjectives)),
            "did_not": lambda: self._one(["lived here", "been away", "worked with " + self._one(PEOPLE), "been ill"]),
            "did_it": lambda: self._one(["found", "lost", "follows", "needs", "became", "hid", "covered", "hates"]),
            "open2": lambda: self._one(LISTS["open"]),
            "Who": lambda: _capital(self._one(LISTS["who"])),
            "Open": lambda: self._one(LISTS["open"]),
            **{name: getattr(figures, name) for name in _FIGURES},
        }
        lists: Slots = {name: (lambda words=words: self._one(words)) for name, words in LISTS.items()}  # type: ignore[misc]
        self._slots = lists | own

    def __iter__(self) -> Iterator[str]:
        while True:
            yield self.sentence()

    def sentence(self) -> str:
        template = self._one(TEMPLATES)
        text = re.sub(r"\{(\w+)\}", lambda match: self._slots[match[1]](), template)
        return _capital(text)

    def _one(self, words: list[str] | tuple[str, ...]) -> str:
        return words[int(self._random.integers(len(words)))]


_FIGURES = "number small point quantity year date time money phone nth letters".split()


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
