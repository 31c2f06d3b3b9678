"""A small quiz of general knowledge: what a model still knows after it has learned something else.

Each question is the beginning of a sentence, and four ends of it, the right one first. A model's answer is the end that
it finds likeliest after the beginning; guessing gets a quarter right.
"""

from typing import NamedTuple

_QUIZ = """
The capital of France is|Paris|Rome|Madrid|Vienna
The capital of Japan is|Tokyo|Seoul|Beijing|Bangkok
The capital of Egypt is|Cairo|Athens|Tunis|Baghdad
The capital of Canada is|Ottawa|Chicago|Boston|Havana
The largest ocean on Earth is the|Pacific|Atlantic|Arctic|Baltic
The longest river in Africa is the|Nile|Rhine|Amazon|Danube
The highest mountain in the world is Mount|Everest|Fuji|Etna|Olympus
The Great Wall was built in|China|India|Brazil|Norway
The Eiffel Tower stands in|Paris|London|Berlin|Moscow
Kangaroos live in|Australia|Canada|Russia|Poland
The pyramids of Giza are in|Egypt|Mexico|Greece|Iran
The Amazon rainforest lies mostly in|Brazil|Kenya|Spain|Japan
Water is made of hydrogen and|oxygen|carbon|iron|helium
Water freezes at zero degrees|Celsius|Newton|Volt|Meter
The chemical symbol for gold is|Au|Fe|Na|He
The Earth goes around the|Sun|Moon|Mars|stars
The planet closest to the Sun is|Mercury|Saturn|Neptune|Jupiter
The largest planet of the solar system is|Jupiter|Mars|Venus|Earth
The Moon goes around the|Earth|Sun|Mars|Milky Way
Plants take in carbon|dioxide|steel|copper|water
The heart pumps|blood|air|food|bone
We breathe with our|lungs|kidneys|knees|ears
We see with our|eyes|ears|feet|lungs
Bees make|honey|milk|silk|bread
Cows give|milk|honey|wine|oil
A baby dog is called a|puppy|kitten|calf|lamb
A baby cat is called a|kitten|puppy|foal|chick
Spiders have eight|legs|wings|tails|hearts
Penguins are birds that cannot|fly|swim|walk|eat
Fish breathe with|gills|lungs|leaves|wings
Two plus two equals|four|nine|seven|one
A triangle has three|sides|wheels|moons|colors
Half of one hundred is|fifty|twelve|ninety|six
There are seven days in a|week|month|year|minute
There are twelve months in a|year|week|day|century
There are sixty seconds in a|minute|month|year|day
The day after Monday is|Tuesday|Sunday|Friday|Saturday
The opposite of hot is|cold|tall|red|fast
The opposite of up is|down|blue|loud|early
The color of grass is|green|purple|black|pink
Mixing blue and yellow gives|green|white|black|silver
The play Romeo and Juliet was written by|Shakespeare|Einstein|Napoleon|Mozart
The Mona Lisa was painted by Leonardo da|Vinci|Rio|Gama|Silva
The theory of relativity is due to Albert|Einstein|Camus|Schweitzer|Speer
The first President of the United States was George|Washington|Orwell|Harrison|Michael
The first person to walk on the Moon was Neil|Armstrong|Young|Diamond|Gaiman
The Second World War ended in|1945|1812|1492|1989
Columbus sailed to America in|1492|1789|1918|1066
The language spoken in Brazil is|Portuguese|Dutch|Arabic|Hindi
The language spoken in Austria is|German|Korean|Greek|Turkish
The currency of Japan is the|yen|dollar|franc|peso
The currency of the United Kingdom is the|pound|rupee|yen|ruble
Bread is made from|flour|sand|leather|glass
Wine is made from|grapes|potatoes|corn|milk
Cheese is made from|milk|grapes|wood|salt
Sushi is a dish from|Japan|Mexico|Germany|Nigeria
Pizza comes from|Italy|China|Norway|Peru
A piano is played with the|hands|feet|mouth|ears
Football is played with a|ball|sword|boat|piano
A doctor works in a|hospital|mine|bakery|stable
"""


class Question(NamedTuple):
    """The beginning of a sentence and its possible ends, the right one first; each end begins with a space."""

    beginning: str
    ends: list[str]


def questions() -> list[Question]:
    """All of the quiz."""
    rows = (line.split("|") for line in _QUIZ.strip().splitlines())
    return [Question(beginning, [f" {end}" for end in ends]) for beginning, *ends in rows]
