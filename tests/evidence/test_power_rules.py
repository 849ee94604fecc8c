import pytest

from lydite.evidence.power import rules
from lydite.evidence.power.reference import Gates
from lydite.evidence.power.rules import Outcome, Readings

MINER = {"sm_active": 1.0, "tensor_active": 0.0, "integer_active": 0.8, "power_average_w": 350.0}
DECODE = {"sm_active": 0.24, "tensor_active": 0.04, "integer_active": 0.1, "power_average_w": 207.0}
TRAINING = {"sm_active": 0.88, "tensor_active": 0.58, "power_average_w": 689.0}
SILENT = {"sm_active": 0.02, "tensor_active": 0.0, "power_average_w": 600.0}


def outcomes(
    means: dict[str, float], counted: float | None = None, integrated: float | None = None
) -> dict[str, Outcome]:
    found = rules.gates(Readings(means, 700, counted, integrated), Gates())
    return {gate.name: gate.outcome for gate in found}


@pytest.mark.parametrize(
    ("means", "gate"),
    [
        (MINER, "hashing"),
        (TRAINING, "training-like"),
        (SILENT, "power-without-work"),
        ({"power_average_w": 75.0}, "idle"),
        ({"power_average_w": 120.0}, "loaded-idle"),
    ],
)
def test_each_gate_knows_its_own(means: dict[str, float], gate: str) -> None:
    found = outcomes(means)
    assert found[gate] is Outcome.FIRED
    assert [name for name, one in found.items() if one is Outcome.FIRED] == [gate]


def test_decoding_passes_every_gate() -> None:
    assert Outcome.FIRED not in outcomes(DECODE, 1000.0, 990.0).values()


@pytest.mark.parametrize("missing", ["sm_active", "tensor_active", "integer_active"])
def test_a_gate_abstains_by_name_where_a_channel_is_missing(missing: str) -> None:
    means = {name: value for name, value in MINER.items() if name != missing}
    gate = rules.gates(Readings(means, 700, None, None), Gates())[0]
    assert gate.outcome is Outcome.ABSTAINED
    assert missing in gate.why


def test_power_alone_leaves_every_gate_on_multiprocessors_unsaid() -> None:
    found = outcomes({"power_average_w": 400.0})
    assert [name for name, one in found.items() if one is Outcome.ABSTAINED] == [
        "hashing",
        "training-like",
        "power-without-work",
        "energy-unlike-power",
    ]


@pytest.mark.parametrize(
    ("counted", "outcome"),
    [(1000.0, Outcome.QUIET), (1099.0, Outcome.QUIET), (600.0, Outcome.FIRED)],
)
def test_energy_has_to_be_the_integral_of_power(counted: float, outcome: Outcome) -> None:
    assert outcomes(DECODE, counted, 1000.0)["energy-unlike-power"] is outcome


def test_each_gate_names_its_numbers() -> None:
    gate = rules.gates(Readings(MINER, 700, None, None), Gates())[0]
    assert gate.why == "sm_active 1.000, tensor_active 0.000, integer_active 0.800"
