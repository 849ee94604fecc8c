"""Asks the driver for what each NVIDIA GPU of this machine signs, by its library NVML.

Only who attests imports this. Knows nothing of policies.
"""

from typing import Any, Literal, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lydite.errors import UnavailableError
from lydite.evidence.nvgpu.claims import LABEL, Claims, Device
from lydite.messages.nonce import Binding, nonce

Mode = Literal["on", "dev-tools", "off", "unread"]


class Driver(Protocol):
    """What is asked of a driver."""

    def count(self) -> int:
        """Return how many devices there are."""

    def report(self, device: int, nonce: bytes) -> bytes:
        """Return request and answer of one device, as SPDM has them."""

    def chain(self, device: int) -> bytes:
        """Return its certificates as PEM, its own first."""

    def mode(self) -> Mode:
        """Return whether protection is on, open to developers, or off."""


class Nvml:
    """The driver's library, by ``nvidia-ml-py``."""

    def __init__(self) -> None:
        try:
            import pynvml
        except ModuleNotFoundError as error:
            raise UnavailableError("nvidia-ml-py is not installed: lydite[nvidia]") from error
        self._library = pynvml
        self._call("nvmlInit")

    def _call(self, name: str, *arguments: object) -> Any:
        try:
            return getattr(self._library, name)(*arguments)
        except (self._library.NVMLError, AttributeError) as error:
            raise UnavailableError(f"{name}: {error}") from error

    def _handle(self, device: int) -> object:
        return self._call("nvmlDeviceGetHandleByIndex", device)

    def count(self) -> int:
        """Return how many GPUs there are."""
        return int(self._call("nvmlDeviceGetCount"))

    def report(self, device: int, nonce: bytes) -> bytes:
        """Return one GPU's report."""
        name = "nvmlDeviceGetConfComputeGpuAttestationReport"
        made = self._call(name, self._handle(device), nonce)
        return bytes(made.attestationReport[: made.attestationReportSize])

    def chain(self, device: int) -> bytes:
        """Return one GPU's certificates."""
        made = self._call("nvmlDeviceGetConfComputeGpuCertificate", self._handle(device))
        return bytes(made.attestationCertChain[: made.attestationCertChainSize])

    def mode(self) -> Mode:
        """Return what the driver says of this machine's protection."""
        state = self._call("nvmlSystemGetConfComputeState")
        if state.devToolsMode:
            return "dev-tools"
        return "on" if state.ccFeature else "off"


def attest(binding: Binding, driver: Driver) -> Claims:
    """Return evidence for ``binding`` of every device that a driver knows.

    Raises:
        UnavailableError: there is none, or one does not answer.
    """
    count, signed, mode = driver.count(), nonce(LABEL, binding), driver.mode()
    if not count:
        raise UnavailableError("there is no NVIDIA GPU")
    devices = tuple(
        Device(
            report=driver.report(each, signed).hex(),
            certificates=_ders(driver.chain(each)),
            mode=mode,
        )
        for each in range(count)
    )
    return Claims(binding=binding, devices=devices)


def _ders(pem: bytes) -> tuple[str, ...]:
    try:
        read = x509.load_pem_x509_certificates(pem.rstrip(b"\0"))
    except ValueError as error:
        raise UnavailableError(f"the driver hands over no certificates: {error}") from error
    return tuple(each.public_bytes(Encoding.DER).hex() for each in read)
