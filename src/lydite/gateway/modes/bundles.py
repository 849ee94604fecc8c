"""Model signatures (OpenSSF model signing, OMS): what a signed bundle lists, and making one.

The signature is checked by that project's library, against keys or certificates that the settings
pin; this module turns what the library accepted into one listed model. Knows nothing of whitelists
or modes. Only here is the library imported, and only when something is checked or signed.
"""

import hashlib
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lydite.engines import layout as layouts
from lydite.engines import weights
from lydite.engines.layout import Layout
from lydite.engines.weights import ALGORITHMS, MANIFEST, Algorithm, File
from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError

SIGNATURE = "model.sig"
LAYOUT = "layout.json"
_BUNDLE_BYTES = 64 * 1024 * 1024
_logger = logging.getLogger(__name__)
_EXTRA = "model signatures need lydite[upload]; in a clone: pip install '.[upload]'"


class Anchors(NamedTuple):
    """Whose model signatures count: files of EC public keys, and of certificates (PEM)."""

    keys: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()


class Listed(NamedTuple):
    """One signed model: its root, its files with a digest each, and how an upload of it lies."""

    root: str
    """As ``weights.root_of`` makes it from the signed digests: what a declaration names."""
    signature: str
    """SHA-256 of the bundle, in hexadecimal."""
    subject: str
    """The root digest by which OMS itself names the model."""
    name: str
    files: tuple[File, ...]
    layout: Layout

    @property
    def size(self) -> int:
        """S: how many bytes an upload has."""
        return self.layout.size


def verify(bundle: bytes, layout: bytes, anchors: Anchors) -> Listed:
    """Return the model that a signed bundle lists.

    1. The bundle is within its bounds, and one of the anchors signed it (the library's check).
    2. It lists whole files by SHA-256 or BLAKE3, none in a folder of its own.
    3. The layout names the same files.

    Raises:
        VerificationError: no anchor signed it (``bad-signature``).
        FormatError: any other step fails.
        ConfigurationError: an anchor cannot be read, or the library is missing.

    **Does not show** when it was signed, that a certificate has not expired or been revoked since,
    or that the layout's sizes are right: a model of another size matches no signed digest.
    """
    # 1.
    if len(bundle) > _BUNDLE_BYTES:
        raise FormatError(f"model signature of {len(bundle)} bytes", Reason.TOO_LARGE)
    manifest = _signed(bundle, anchors)
    # 2.
    files = _files(manifest)
    # 3.
    laid = layouts.parse(layout)
    if [file.name for file in laid.files] != [file.name for file in files]:
        raise FormatError("the layout names other files than the model signature")
    if not laid.size:
        raise FormatError("a model without a byte")
    sized = tuple(
        File(name=file.name, size=each.size, sha256=file.sha256, blake3=file.blake3)
        for file, each in zip(files, laid.files, strict=True)
    )
    return Listed(
        root=weights.root_of(sized),
        signature=hashlib.sha256(bundle).hexdigest(),
        subject=hashlib.sha256(b"".join(file.digest for file in files)).hexdigest(),
        name=str(manifest.model_name)[:200],
        files=sized,
        layout=laid,
    )


def sign(directory: Path, key: Path, out: Path, algorithm: Algorithm = "sha256") -> Listed:
    """Write model signature and layout of ``directory`` into ``out``, and return what they list.

    ``key`` is a private EC key in PEM.

    Raises:
        ConfigurationError: there is no model, the key cannot be used, the library is missing.
    """
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as error:
        raise ConfigurationError(_EXTRA) from error
    laid = layouts.write(layouts.lay_out(directory))
    how = hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    how.set_ignored_paths(paths=[MANIFEST], ignore_git_paths=False)
    try:
        signer = signing.Config().set_hashing_config(how).use_elliptic_key_signer(private_key=key)
        signer.sign(directory, out / SIGNATURE)
        (out / LAYOUT).write_bytes(laid)
        public = out / "signer.pem"
        public.write_bytes(_public(key))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"cannot sign {directory} with {key}: {error}") from error
    return verify((out / SIGNATURE).read_bytes(), laid, Anchors(keys=(public,)))


def create_key(path: Path) -> None:
    """Write a new EC key (P-256, PEM) with mode 0600, refusing to replace one.

    Raises:
        ConfigurationError: the file exists or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    text = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(text)
    except FileExistsError as error:
        raise ConfigurationError(f"key {path} exists; leave out --new-key to use it") from error
    except OSError as error:
        raise ConfigurationError(f"cannot create key {path}: {error.strerror}") from error


def _public(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.read_bytes(), None)
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _signed(bundle: bytes, anchors: Anchors) -> Any:
    """Return the manifest that the library reads from a bundle which an anchor signed."""
    try:
        from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore_pb
    except ModuleNotFoundError as error:
        raise ConfigurationError(_EXTRA) from error
    if not anchors.keys and not anchors.certificates:
        raise ConfigurationError("nothing says whose model signatures count", Reason.UNKNOWN_KEY)
    try:
        verifiers: list[Any] = [sign_ec_key.Verifier(path) for path in anchors.keys]
        if anchors.certificates:
            verifiers.append(sign_certificate.Verifier(anchors.certificates))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"anchors of model signatures: {error}") from error
    refusals = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / SIGNATURE
        path.write_bytes(bundle)
        for verifier in verifiers:
            try:
                return verifier.verify(sign_sigstore_pb.Signature.read(path))
            except Exception as error:  # others' parsers and checks: whatever they raise is a no
                _logger.debug("a model signature is refused", exc_info=True)
                refusals.append(f"{type(error).__name__}: {error}"[:200])
    raise VerificationError(Reason.BAD_SIGNATURE, f"model signature refused: {refusals}")


def _files(manifest: Any) -> tuple[File, ...]:
    """Return the files of a manifest by name, sizes still unknown (0)."""
    said: Mapping[str, Any] = manifest.serialization_type
    algorithm = said.get("hash_type")
    if said.get("method") != "files" or algorithm not in ALGORITHMS:
        raise FormatError(
            f"a model signature by {said.get('method')} and {algorithm}: "
            f"expected files and one of {ALGORITHMS}"
        )
    files = []
    for resource in manifest.resource_descriptors():
        name = resource.identifier
        if "/" in name or "\0" in name or name in {"", ".", "..", MANIFEST}:
            raise FormatError(f"a model signature lists {name!r}: expected plain file names")
        if resource.digest.algorithm != algorithm or len(resource.digest.digest_value) != 32:
            raise FormatError(f"{name}: a digest by {resource.digest.algorithm}")
        files.append(File(name=name, size=0, **{algorithm: resource.digest.digest_hex}))
    return tuple(sorted(files, key=lambda file: file.name))
