"""Natural prompts, fresh in every run, so that no endpoint knows an audit by its questions.

Each is a stored form with stored words in its places, chosen by a secret salt that is made anew for
each run and kept in the report. Knows nothing of models.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lydite.errors import ConfigurationError

_FORMS = (
    "Explain {thing} to {someone}.",
    "What is the difference between {thing} and {other}?",
    "Write a short email to {someone} about {matter}.",
    "Give me three ideas for {matter}.",
    "I have to talk about {thing} tomorrow. Can you write me an outline?",
    "Write a Python function that {deed}, with a short docstring.",
    "Why does my Python code that {deed} run so slowly? How would you write it?",
    "Tell me a short story about {someone} and {object}.",
    "How do I choose {object}?",
    "Summarise what one should know about {thing} in five sentences.",
    "Write a unit test for a function that {deed}.",
    "My neighbour says that {thing} is overrated. What would you answer?",
    "Make a packing list for {matter}.",
    "Describe {object} to {someone} who has never seen one.",
    "Which mistakes do people make with {matter}, and how can I avoid them?",
    "Translate into simple words: {thing} depends on {other}.",
    "Write a dialogue in which {someone} buys {object}.",
    "What should I ask before {matter}?",
    "Write four lines of verse about {object}.",
    "Review this plan: first {matter}, then {errand}.",
)
_WORDS: Mapping[str, Sequence[str]] = {
    "thing": (
        "compound interest", "photosynthesis", "a hash table", "inflation", "the water cycle",
        "a binary search", "public transport", "sourdough", "the immune system", "plate tectonics",
        "a database index", "peer review", "the offside rule", "recursion", "a mortgage",
        "noise cancelling", "the placebo effect", "version control", "tidal power", "composting",
        "garbage collection in programs", "a jury trial", "supply and demand", "a heat pump",
    ),
    "other": (
        "simple interest", "respiration", "a linked list", "growth", "the weather", "a linear scan",
        "cycling", "yeast", "a vaccine", "volcanoes", "a full table scan", "an opinion",
        "handball", "a loop", "rent", "silence", "chance", "a backup", "wind", "landfill",
    ),
    "someone": (
        "a ten-year-old", "my landlord", "a colleague", "my grandmother", "a new manager",
        "a retired engineer", "our accountant", "a student", "a nurse on night shift", "a customer",
        "my sister", "a sceptical friend", "the school board", "a tourist", "a violinist",
    ),
    "matter": (
        "a weekend in the mountains", "a broken dishwasher", "moving to another city",
        "a birthday without sugar", "a leaking roof", "learning to swim as an adult",
        "a garden on a balcony", "a first marathon", "selling an old car", "a team meeting",
        "a power cut", "planning a reading group", "a noisy flat", "saving for a trip",
    ),
    "errand": (
        "call the plumber", "compare three offers", "write it all down", "ask for a refund",
        "sleep on it", "invite everybody", "cancel the contract", "measure again",
    ),
    "object": (
        "a bicycle", "a second-hand camera", "a lighthouse", "a kettle", "an umbrella", "a violin",
        "a bread knife", "a telescope", "a hiking boot", "a chessboard", "a fountain pen",
        "a night train", "a kite", "a sewing machine", "a wooden chair",
    ),
    "deed": (
        "counts the words in a file", "merges two sorted lists", "parses a date",
        "finds duplicates in a folder", "reverses a linked list", "reads a CSV file",
        "retries a failing request", "computes a moving average", "validates an email address",
        "flattens nested lists", "caches its results", "writes a log line as JSON",
        "converts Roman numerals", "walks a directory tree", "splits text into sentences",
    ),
}  # fmt: skip
_PROBES = (
    "Name a colour. One word only.",
    "Pick a random animal and answer with its name alone.",
    "Say any word.",
    "Name a city. Only the name.",
    "Think of a first name and write nothing else.",
    "Choose a number between one and twenty and write it as a word.",
    "Name a fruit. One word.",
    "Name any profession, in one word.",
    "Begin a story. First word only.",
    "Name an instrument.",
    "What comes to your mind first?",
    "Name a thing that one finds in a kitchen.",
)


def fresh(salt: bytes) -> Iterator[dict[str, Any]]:
    """Yield prompts for ever, those that ``salt`` chooses, as ``{"messages": [...]}``."""
    dice = random.Random(salt)
    while True:
        for form in dice.sample(_FORMS, len(_FORMS)):
            words = {place: dice.choice(words) for place, words in _WORDS.items()}
            yield {"messages": [{"role": "user", "content": form.format(**words)}]}


def stored(content: bytes, salt: bytes) -> Iterator[dict[str, Any]]:
    """Yield the prompts of a file for ever, shuffled anew each time round.

    The file is a JSON list of ``{"messages": [...]}``, ``{"prompt": "..."}`` or plain strings.

    Raises:
        ConfigurationError: another file, or an empty one.
    """
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"prompts: {error}") from error
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError("prompts: expected a JSON list that is not empty")
    prompts = [_prompt(one) for one in listed]
    dice = random.Random(salt)

    def forever() -> Iterator[dict[str, Any]]:
        while True:
            yield from dice.sample(prompts, len(prompts))

    return forever()


def probes(salt: bytes, count: int) -> list[dict[str, Any]]:
    """Return ``count`` prompts whose first token may be any of many.

    Raises:
        ConfigurationError: there are not as many.
    """
    if not 1 <= count <= len(_PROBES):
        raise ConfigurationError(f"between 1 and {len(_PROBES)} probes, not {count}")
    chosen = random.Random(salt).sample(_PROBES, count)
    return [{"messages": [{"role": "user", "content": text}]} for text in chosen]


def _prompt(one: Any) -> dict[str, Any]:
    if isinstance(one, str) and one:
        return {"messages": [{"role": "user", "content": one}]}
    if isinstance(one, dict) and len(one) == 1:
        if isinstance(one.get("prompt"), str) and one["prompt"]:
            return one
        turns = one.get("messages")
        if isinstance(turns, list) and turns and all(map(_turn, turns)):
            return one
    raise ConfigurationError(f"prompts: no prompt: {json.dumps(one)[:80]}")


def _turn(turn: Any) -> bool:
    if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
        return False
    return all(isinstance(value, str) for value in turn.values())
