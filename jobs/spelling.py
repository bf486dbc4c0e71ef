"""A score of your own: how far a Russian candidate, written in Latin letters, is spelled like the English entity.

Rare names are what an aligner's model has hardly seen; their spelling gives them away. xner_ray calls `spelling` for
each entity with all its candidates (docs/evidence.md says what it gets). Nothing of xner_ray needs to be imported.
"""

from difflib import SequenceMatcher

LETTERS = (
    "а=a б=b в=v г=g д=d е=e ё=e ж=zh з=z и=i й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t у=u ф=f х=kh ц=ts ч=ch ш=sh "
    "щ=shch ы=y э=e ю=yu я=ya"
)
LATIN = dict(pair.split("=") for pair in LETTERS.split())


def spelling(row, entity, candidates):
    """0 to 1 for each candidate; 0 below 0.7, where likeness is chance."""
    name = letters(entity["text"])
    likeness = [SequenceMatcher(None, name, letters(each["text"])).ratio() for each in candidates]
    return [ratio if ratio >= 0.7 else 0.0 for ratio in likeness]


def letters(text):
    """Small Latin letters alone; the soft and the hard sign have none."""
    return "".join(LATIN.get(letter, letter) for letter in text.lower() if letter in LATIN or "a" <= letter <= "z")
