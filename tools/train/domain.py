"""What the demo assistant can talk about: questions and their answers."""
import itertools

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen").split()
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty", 6: "sixty", 7: "seventy", 8: "eighty",
        9: "ninety"}
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()

# Phrasings of a sum, and how often each is drawn.
SUM_PHRASES = [("what is {}", 8), ("what's {}", 3), ("how much is {}", 3), ("{}", 2),
               ("tell me {}", 2)]


def number(n):
    """-81 .. 99 in words."""
    if n < 0:
        return "minus " + number(-n)
    if n < 20:
        return ONES[n]
    tens, ones = divmod(n, 10)
    return TENS[tens] + (" " + ONES[ones] if ones else "")


def sums():
    """[(sum, answer)]: 0-9 plus, minus, times 0-9."""
    out = []
    for a, b in itertools.product(range(10), range(10)):
        for word, result in (("plus", a + b), ("minus", a - b), ("times", a * b)):
            core = f"{number(a)} {word} {number(b)}"
            out.append((core, f"{core} is {number(result)}"))
    return out


def _chat():
    """[(questions, answer)]"""
    chat = [
        (["hello", "hi", "hello there", "hey there", "hi there", "good morning", "good evening"],
         "hello there how can i help you"),
        (["what is your name", "what's your name", "who are you", "tell me your name"],
         "my name is moshi"),
        (["how are you", "how are you today", "how are you doing", "how do you feel"],
         "i am fine thank you"),
        (["what can you do", "help", "help me please", "what can i ask you"],
         "i can add numbers count and tell a joke"),
        (["tell me a joke", "do you know a joke", "make me laugh"],
         "why is six afraid of seven because seven eight nine"),
        (["tell me another joke", "another joke please", "one more joke"],
         "what is brown and sticky a stick"),
        (["thank you", "thanks", "thank you very much"], "you are welcome"),
        (["goodbye", "bye bye", "see you later"], "goodbye see you soon"),
        (["can you hear me", "are you there", "are you listening"], "yes i can hear you"),
        (["how many days are in a week", "how many days in a week"],
         "there are seven days in a week"),
        (["what are the days of the week", "tell me the days of the week",
          "name the days of the week"], " ".join(DAYS)),
    ]
    for n in range(3, 11):
        chat.append(([f"count to {number(n)}", f"please count to {number(n)}",
                      f"can you count to {number(n)}"],
                     " ".join(number(i) for i in range(1, n + 1))))
    for n in (3, 5):
        chat.append(([f"count down from {number(n)}"],
                     " ".join(number(i) for i in range(n, 0, -1))))
    for i, day in enumerate(DAYS):
        after, before = DAYS[(i + 1) % 7], DAYS[(i - 1) % 7]
        chat.append(([f"what day comes after {day}", f"which day is after {day}"],
                     f"{after} comes after {day}"))
        chat.append(([f"what day comes before {day}", f"which day is before {day}"],
                     f"{before} comes before {day}"))
    return chat


CHAT = _chat()


def sum_phrases():
    """Every phrasing as often as its weight says, to draw from."""
    return [phrase for phrase, weight in SUM_PHRASES for _ in range(weight)]


def answers():
    return [answer for _, answer in sums()] + [answer for _, answer in CHAT]


def questions():
    return ([phrase.format(core) for core, _ in sums() for phrase, _ in SUM_PHRASES] +
            [question for qs, _ in CHAT for question in qs])


if __name__ == "__main__":
    words = {w for s in answers() + questions() for w in s.split()}
    print(f"{len(answers())} answers, {len(questions())} questions, {len(words)} words")
