"""The receiver at the other end of a leak: reads the secret in answers, and checks that it is it.

Knows what the sender knows but the secret: model, prompts, sampling, seeds, method. What it reads
is what really got through, against which a meter's bound is held.
"""

import json
from pathlib import Path
from typing import NamedTuple

from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.tokens import sampling
from lydite.laboratory.exfiltration import METHODS, Model, Sent, check_received
from lydite.laboratory.leak import METHOD, secret_of
from lydite.laboratory.streams import Question
from lydite.messages.commitment import Salt, commit_request, sampling_seed

_PATH = b"/v1/completions"


class Answer(NamedTuple):
    """One exchange as its client has it: the salt that came along, and both bodies."""

    salt: bytes
    request: bytes
    response: bytes


def bits(model: Path, answers: list[Answer]) -> int:
    """Return how many bits of the secret stand in ``answers``, each of which is checked.

    Raises:
        FormatError: other bits than the secret's were read.
    """
    engine = TransformersEngine.load(model, "bf16", 1)
    ends = Model(load_model(model, "bf16"), engine)
    total = 0
    for answer in answers:
        sent = _sent(answer)
        heard = ends.receive(METHODS[METHOD], [sent])
        check_received(secret_of(sent.question.seed), heard.bits, heard)
        total += heard.bits
    engine.close()
    return total


def _sent(answer: Answer) -> Sent:
    salt = Salt(answer.salt)
    seed = sampling_seed(salt, commit_request(salt, _PATH, answer.request))
    said, asked = json.loads(answer.response), json.loads(answer.request)
    choice = said["choices"][0]
    question = Question(tuple(said["prompt_token_ids"]), sampling.from_request(asked), seed)
    return Sent(question, tuple(choice["token_ids"]), cut=False)
