"""Every exception that lydite raises, and every reason that it publishes.

Knows nothing of what failed: a ``Reason`` is a word for a relying party, an exception carries one.
Reasons are published: add, never rename.
"""

import enum


class Reason(enum.StrEnum):
    """Why something was refused, could not be learnt, or ended as it did."""

    MALFORMED = "malformed"
    """The bytes are not what their type asks for."""
    NOT_CANONICAL = "not-canonical"
    """The bytes parse, but are not the spelling that we would write."""
    TOO_LARGE = "too-large"
    """A bound on size or count was passed before any signature was looked at."""
    BAD_SIGNATURE = "bad-signature"
    """A signature does not verify under a key that we trust."""
    UNKNOWN_KEY = "unknown-key"
    """No key that we trust signed this."""
    WRONG_ORIGIN = "wrong-origin"
    """The checkpoint or proof belongs to another log."""
    NO_RECEIPT = "no-receipt"
    """An answer came without the receipt, or the signature on it, that it has to come with."""
    BROKEN_OFF = "broken-off"
    """The answer is not complete, as its receipt says: it broke off, or is a refusal."""
    BROKEN_PROMISE = "broken-promise"
    """The gateway promised an entry of its log that the log does not hold in time."""
    NOT_IN_LOG = "not-in-log"
    """The inclusion proof does not lead to the checkpoint's root."""
    INCONSISTENT_LOG = "inconsistent-log"
    """Two checkpoints of one log contradict each other: a fork or a truncation."""
    UNWITNESSED = "unwitnessed"
    """Too few of the witnesses that the policy asks for cosigned the checkpoint."""
    STALE = "stale"
    """The evidence answers an older challenge, or its clock lies outside the allowed window."""
    BAD_BEACON = "bad-beacon"
    """The public randomness does not verify, or is not the round that the schedule asks for."""
    BAD_SELECTION_PROOF = "bad-selection-proof"
    """The VRF proof does not verify over the epoch's checkpoint and beacon round."""
    BAD_RATE = "bad-rate"
    """The epoch draws at another rate than the policy fixes."""
    SELECTION_GAP = "selection-gap"
    """The epochs leave entries of the log undrawn, or draw some twice."""
    AUDIT_MISSING = "audit-missing"
    """A drawn receipt has no audit record: silence counts as failure."""
    UNDRAWN_AUDIT = "undrawn-audit"
    """An audit record is about a receipt that nobody drew."""
    BAD_COMMITMENT = "bad-commitment"
    """The opened bytes are not those that the receipt commits to."""
    WRONG_PROVIDER = "wrong-provider"
    """The evidence is about another provider or another declaration."""
    FINDING_MISMATCH = "finding-mismatch"
    """A recorded finding does not follow from the scores beside it."""
    VERDICT_MISMATCH = "verdict-mismatch"
    """The recorded verdict does not follow from the recorded findings."""
    UNKNOWN_REFERENCE = "unknown-reference"
    """The Reference Value is not one that the relying party accepts."""
    UNKNOWN_POLICY = "unknown-policy"
    """The appraisal policy is not the one that the relying party accepts."""
    NO_TRUST_ANCHORS = "no-trust-anchors"
    """Nothing says whom to trust, so nothing can be affirmed."""
    NEEDS_EXTRA = "needs-extra"
    """This kind of evidence is verified by an extra that is not installed, or by a Reference Value
    that nobody named."""
    UNAVAILABLE = "unavailable"
    """The evidence could not be had."""
    EXAMINATION_FAILED = "examination-failed"
    """An examination ended in a way that nobody foresaw: it passes for nothing."""
    WITHHELD = "withheld"
    """The gateway did not open a drawn receipt within the time that it had: its own fault."""
    PENDING = "pending"
    """The receipt is in the log; the draw that covers it, its audit or a verdict is to come."""
    NO_TOKEN_IDS = "no-token-ids"
    """The answer does not say which tokens it is made of."""
    NO_SKETCH = "no-sketch"
    """The answer carries no sketch of the activations that its tokens were drawn from."""
    UNKNOWN_SPEC = "unknown-spec"
    """The sketch is made by another specification than the Reference Value is for."""
    OTHER_KEY = "other-key"
    """The sketch is made with another key: for other tokens, another receipt or other weights."""
    SKETCH_SIZE = "sketch-size"
    """The sketch is not as long as that of so many tokens is."""
    NO_LOGPROBS = "no-logprobs"
    """The answer does not give the log-probabilities of its tokens that its request asks for."""
    BAD_LOGPROBS = "bad-logprobs"
    """The answer gives log-probabilities that cannot be those of its tokens."""
    UNKNOWN_TOKEN = "unknown-token"
    """The answer names a token that the declared model does not have."""
    TEXT_DIFFERS = "text-differs"
    """The token ids that the provider gave do not spell the text that it served."""
    CUT_SHORT = "cut-short"
    """The answer ends where neither the model, the request nor the context ends it."""
    ODD_ANSWER = "odd-answer"
    """The answer is not one that its request asks for: another shape, several choices, an error."""
    EMPTY_ANSWER = "empty-answer"
    """The answer has no tokens at all."""
    RETOKENISED = "retokenised"
    """The tokens cannot be found again from the text with certainty, so they are not compared."""
    PROMPT_DIFFERS = "prompt-differs"
    """The server says that the prompt has other tokens than the declared template makes of it."""
    SAMPLING_DIFFERS = "sampling-differs"
    """The tokens are the declared model's, drawn by another sampling than the one asked for."""
    NUMERICS_DIFFER = "numerics-differ"
    """The numbers differ more than those of known honest machines, and no passport explains it."""
    ENDPOINTS_DIFFER = "endpoints-differ"
    """Two endpoints do not answer alike, beyond what honest machines differ in."""
    REFUSED = "refused"
    """The server refuses a request of this kind."""
    BUSY = "busy"
    """The server asks to be left alone for longer than we wait."""
    BUDGET_SPENT = "budget-spent"
    """What may be spent was spent before there was enough evidence."""
    NOT_RANDOM = "not-random"
    """The client chose seed or temperature 0, hence the outcome: it is held against nobody."""
    UNCALIBRATED = "uncalibrated"
    """The Reference Value says nothing about answers that are sampled in this way."""
    OTHER_NUMERICS = "other-numerics"
    """The scores differ, on a declared stack that no honest measurement of the null covers."""
    SEED_IGNORED = "seed-ignored"
    """The tokens fit the declared model, but were not drawn with the seeds that they should be."""
    NOT_COMPARED = "not-compared"
    """The evidence stands, but was not compared with the bytes that it is about."""
    UNSUPPORTED = "unsupported"
    """The request uses something that this verifier cannot recompute."""
    UNKNOWN_SAMPLER = "unknown-sampler"
    """No adapter repeats the noise of the declared sampler, so its tokens cannot be scored."""
    SPECULATIVE = "speculative"
    """Drafts are kept or replaced by draws of their own, which no seed of ours repeats."""
    UNDERPOWERED = "underpowered"
    """Too few tokens to tell the declared model from the alternatives that the policy names."""
    POOL_TOO_SMALL = "pool-too-small"
    """The honest pool has too few responses to rank others against at the level that is asked."""
    TOO_SHORT = "too-short"
    """The response has fewer tokens than responses are compared on."""
    UNMEASURED = "unmeasured"
    """Too little of the time was measured to hold telemetry against the declared work."""
    TELEMETRY_FITS = "telemetry-fits"
    """Telemetry fits the declared work; by itself that affirms nothing."""
    TELEMETRY_MISFITS = "telemetry-misfits"
    """Telemetry does not fit the declared work: audits are drawn more often, nobody is accused."""
    SUSPECTED = "suspected"
    """Evidence against the provider that does not reach the level of an accusation."""
    CONSISTENT = "consistent"
    """What was served is what the declared model leaves behind."""
    INCONSISTENT_TOKENS = "inconsistent-tokens"
    """The declared model would not have produced these tokens, at the level of the policy."""
    INCONSISTENT_ACTIVATIONS = "inconsistent-activations"
    """The declared model would not have left these activations, at the level of the policy."""
    RECORDED = "recorded"
    """Scores were measured and recorded; judgement is left to the appraisal."""
    EGRESS_BUDGET = "egress-budget"
    """A session, or all of them together, may carry out no more bits until the budget is raised."""
    EGRESS_WAITING = "egress-waiting"
    """Too many answers wait for the egress meter, so no further one is given."""
    EGRESS_SILENT = "egress-silent"
    """The egress meter has been silent for too long, so no further answer is given."""
    EGRESS_ACCOUNTS = "egress-accounts"
    """The accounts of egress are gone, altered or an old copy: nothing is given until renewed."""
    DISK_FULL = "disk-full"
    """The log cannot be written, so nothing is handed out."""
    VAULT_FULL = "vault-full"
    """The buffer of inputs and outputs is full, and nothing in it may be dropped."""
    DESTROYED = "destroyed"
    """Input and output are gone, as a statement in the log says."""
    BAD_ENTROPY = "bad-entropy"
    """What an epoch reveals is not what was pledged first, before the checkpoint."""
    RETENTION_MISMATCH = "retention-mismatch"
    """What a statement says was destroyed is not what the draw left over."""
    DAMAGED = "damaged"
    """What the log has on disk is not what it wrote, so it is not opened."""
    CONFLICT = "conflict"
    """The state moved on; the answer says to where."""
    UPSTREAM_FAILED = "upstream-failed"
    """The model server failed before or during its answer."""
    NO_UPSTREAM = "no-upstream"
    """No model server that could answer is up at present."""
    UNSERVED_MODEL = "unserved-model"
    """No model server behind this gateway serves the model that was asked for."""
    REPLAYED = "replayed"
    """It was used before: an instruction's nonce, or the receipt that came with another answer."""
    NOT_GRANTED = "not-granted"
    """Nobody may order this action."""
    TOO_FEW_OFFICERS = "too-few-officers"
    """Fewer of the officers who may order this agreed than have to."""
    FAILED = "failed"
    """It was tried, and did not succeed; the detail says why."""
    OVERLOADED = "overloaded"
    """The gateway holds as many long requests and answers as it has room for; try again later."""
    NOT_SERVING = "not-serving"
    """The gateway is not in the mode in which requests are answered."""
    NOT_LISTED = "not-listed"
    """The weights are not on the whitelist, or not those that are declared."""
    WRONG_LENGTH = "wrong-length"
    """The upload announces another number of bytes than the listed model has."""
    WRONG_WEIGHTS = "wrong-weights"
    """The uploaded bytes are not those of the listed model; the power was cut."""
    POWER_STUCK = "power-stuck"
    """The machine's power could not be switched."""
    NOT_READ = "not-read"
    """The sensor could not be read: refused, not there, or without an answer; the detail says."""
    SENSOR_FROZEN = "sensor-frozen"
    """The sensor gave one and the same value for as long as it was watched."""
    SENSOR_UNMOVED = "sensor-unmoved"
    """Heavy work did not move the sensor, as with those of some virtual machines."""
    SENSORS_DISAGREE = "sensors-disagree"
    """Energy, integrated power and averages of one device contradict each other."""
    BROKEN_CHAIN = "broken-chain"
    """A sealed segment of telemetry is missing, altered, or does not follow the one before."""
    CONFIGURATION = "configuration"
    """A setting, path or argument cannot be used."""
    TPM_UNAVAILABLE = "tpm-unavailable"
    """No TPM answers where the settings say that one is."""
    TPM_REFUSED = "tpm-refused"
    """The TPM refused a command, or lacks what it takes."""
    NOT_SEALED = "not-sealed"
    """What has to be sealed to this machine is not; nothing is used in the open instead."""
    BINARY_CHANGED = "binary-changed"
    """The gateway's program, or a library of it, is not the one that the keys are sealed to."""
    SETTINGS_CHANGED = "settings-changed"
    """The gateway's settings are not those that the keys are sealed to."""
    PLATFORM_CHANGED = "platform-changed"
    """Firmware, boot chain or another measured part of the machine is not as when it was sealed."""
    OTHER_TPM = "other-tpm"
    """The sealed secret is not this TPM's, or was altered."""
    STATE_CHANGED = "state-changed"
    """A state file is not the one that the gateway left."""
    ROLLED_BACK = "rolled-back"
    """The state is an older copy: the TPM has counted on since."""
    COUNTER_LOST = "counter-lost"
    """The TPM's counter against roll-back is gone, set back, or not the one of this state."""
    ALREADY_USED = "already-used"
    """The register was extended since boot; the gateway starts once a boot on this one."""
    WRONG_UNIT = "wrong-unit"
    """Values of a sensor that cannot be in the unit that is stated for them."""
    CLOCK_JUMP = "clock-jump"
    """The clock that stamped a sensor's samples was set while it sampled."""
    TOO_FEW_SAMPLES = "too-few-samples"
    """No sample of a sensor is left, or fewer than the question needs."""
    TOO_FAULTY = "too-faulty"
    """So many samples of a sensor are faulty that the others are not believed either."""
    TOO_SLOW = "too-slow"
    """The sensor is read, or renews its value, too seldom to show what is asked."""


class LyditeError(Exception):
    """Base of everything that lydite raises on purpose; carries a published reason."""

    reason: Reason = Reason.CONFIGURATION

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class FormatError(LyditeError):
    """Bytes that are not in the form that we would write: nothing was learnt from them."""

    reason = Reason.MALFORMED


class VerificationError(LyditeError):
    """Evidence that is well formed and false: a signature, a proof or a claim fails."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, reason)


class UnavailableError(LyditeError):
    """Evidence, or what is needed to check it, could not be had: nothing was learnt."""

    reason = Reason.UNAVAILABLE


class ConfigurationError(LyditeError):
    """A setting, path or argument that cannot be used; the message says what to do."""

    reason = Reason.CONFIGURATION


class StorageError(LyditeError):
    """The disk refused a write; nothing that depends on it was handed out."""

    reason = Reason.DISK_FULL


class DeviceError(LyditeError):
    """A TPM did not answer, or refused a command with the response ``code`` (0: no answer)."""

    reason = Reason.TPM_UNAVAILABLE

    def __init__(self, message: str, reason: Reason | None = None, code: int = 0) -> None:
        super().__init__(message, reason)
        self.code = code


class SealError(LyditeError):
    """What is sealed to a machine does not open here and now; the message says what differs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, reason)
