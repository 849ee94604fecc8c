"""Only models that a pinned key signed get on the list, and what is struck off stays off."""

import asyncio
import base64
import json
import shutil
from pathlib import Path

import pytest

from lydite.engines import layout as layouts
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError, LyditeError, Reason
from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import LAYOUT, SIGNATURE, Anchors, Listed
from lydite.gateway.modes.whitelist import Bundle, Whitelist
from tests.gateway.guarded import make_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model", size=4000)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "officer.key"
    bundles.create_key(path)
    return path


@pytest.fixture
def signed(tmp_path: Path, model: Path, key: Path) -> Path:
    out = tmp_path / "signed"
    out.mkdir()
    bundles.sign(model, key, out)
    return out


@pytest.fixture
def anchors(signed: Path) -> Anchors:
    return Anchors(keys=(signed / "signer.pem",))


def read(signed: Path) -> Bundle:
    return Bundle((signed / SIGNATURE).read_bytes(), (signed / LAYOUT).read_bytes())


def payload_of(bundle: bytes) -> dict[str, object]:
    envelope = json.loads(bundle)["dsseEnvelope"]
    return dict(json.loads(base64.b64decode(envelope["payload"])))


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_the_root_of_a_signature_is_what_a_declaration_names(
    tmp_path: Path, model: Path, key: Path, algorithm: str
) -> None:
    listed = bundles.sign(model, key, tmp_path, algorithm)  # type: ignore[arg-type]
    assert listed.root == measure(model, algorithm).root  # type: ignore[arg-type]
    assert listed.size == sum(path.stat().st_size for path in model.iterdir())
    said = payload_of((tmp_path / SIGNATURE).read_bytes())
    assert said["subject"][0]["digest"]["sha256"] == listed.subject  # type: ignore[index]


def test_the_library_s_own_command_agrees(signed: Path, model: Path) -> None:
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=signed / "signer.pem")
    config.verify(model, signed / SIGNATURE)
    (model / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify(model, signed / SIGNATURE)


def test_a_manifest_of_ours_in_the_directory_is_no_part_of_the_model(
    tmp_path: Path, model: Path, key: Path
) -> None:
    before = bundles.sign(model, key, tmp_path).root
    (model / "lydite-manifest.json").write_text("{}")
    assert bundles.sign(model, key, tmp_path).root == before


def test_a_stranger_s_signature_is_refused(tmp_path: Path, model: Path, signed: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    bundles.create_key(stranger / "key")
    bundles.sign(model, stranger / "key", stranger)
    ours = Anchors(keys=(signed / "signer.pem",))
    with pytest.raises(LyditeError) as refused:
        bundles.verify(*read(stranger), ours)
    assert refused.value.reason is Reason.BAD_SIGNATURE
    both = Anchors(keys=(signed / "signer.pem", stranger / "signer.pem"))
    assert bundles.verify(*read(stranger), both).root == measure(model).root


def forged(bundle: bytes, change: str) -> bytes:
    parsed = json.loads(bundle)
    envelope = parsed["dsseEnvelope"]
    if change == "payload":
        payload = bytearray(base64.b64decode(envelope["payload"]))
        at = payload.index(b'"digest"', 200) + 12
        payload[at] = ord("1") if payload[at] == ord("0") else ord("0")
        envelope["payload"] = base64.b64encode(payload).decode()
    elif change == "signature":
        raw = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
        raw[-1] ^= 1
        envelope["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    elif change == "unsigned":
        envelope["signatures"] = []
    elif change == "media":
        parsed["mediaType"] = "text/plain"
    else:
        return bundle[: len(bundle) // 2]
    return json.dumps(parsed).encode()


@pytest.mark.parametrize("change", ["payload", "signature", "unsigned", "media", "half"])
def test_a_changed_bundle_is_refused(signed: Path, anchors: Anchors, change: str) -> None:
    bundle, layout = read(signed)
    with pytest.raises(LyditeError) as refused:
        bundles.verify(forged(bundle, change), layout, anchors)
    assert refused.value.reason is Reason.BAD_SIGNATURE


def test_nobody_s_signature_counts_where_nobody_is_named(signed: Path) -> None:
    with pytest.raises(ConfigurationError, match="whose model signatures count"):
        bundles.verify(*read(signed), Anchors())


def test_a_certificate_counts_as_the_settings_say(
    tmp_path: Path, model: Path, key: Path, signed: Path
) -> None:
    from model_signing import hashing, signing

    root, leaf = certificates(tmp_path, key)
    how = hashing.Config().use_file_serialization()
    signing.Config().set_hashing_config(how).use_certificate_signer(
        private_key=key, signing_certificate=leaf, certificate_chain=[root]
    ).sign(model, tmp_path / SIGNATURE)
    bundle = (tmp_path / SIGNATURE).read_bytes()
    layout = (signed / LAYOUT).read_bytes()
    listed = bundles.verify(bundle, layout, Anchors(certificates=(root,)))
    assert listed.root == measure(model).root
    other, _ = certificates(tmp_path / "other", key)
    with pytest.raises(LyditeError) as refused:
        bundles.verify(bundle, layout, Anchors(certificates=(other,)))
    assert refused.value.reason is Reason.BAD_SIGNATURE


def certificates(place: Path, key: Path) -> tuple[Path, Path]:
    """A root of its own, and a certificate under it for signing with ``key``."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    place.mkdir(exist_ok=True)
    authority = ec.generate_private_key(ec.SECP256R1())
    officer = serialization.load_pem_private_key(key.read_bytes(), None)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("ca", "me")]
    made = []
    for name, public, is_ca in ((names[0], authority, True), (names[1], officer, False)):
        usage = x509.KeyUsage(not is_ca, *[False] * 4, is_ca, *[False] * 3)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(public.public_key())  # type: ignore[arg-type,union-attr]
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1 if not is_ca else 2))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(authority, hashes.SHA256())
        )
        path = place / ("root.pem" if is_ca else "leaf.pem")
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.append(path)
    return made[0], made[1]


def test_shards_and_folders_are_refused(tmp_path: Path, model: Path, key: Path) -> None:
    from model_signing import hashing, signing

    def sign(how: "hashing.Config") -> bytes:
        signer = signing.Config().set_hashing_config(how).use_elliptic_key_signer(private_key=key)
        signer.sign(model, tmp_path / SIGNATURE)
        return (tmp_path / SIGNATURE).read_bytes()

    layout = layouts.write(layouts.lay_out(model))
    bundles.sign(model, key, tmp_path)
    anchors = Anchors(keys=(tmp_path / "signer.pem",))
    with pytest.raises(LyditeError, match="expected files"):
        bundles.verify(sign(hashing.Config().use_shard_serialization()), layout, anchors)
    (model / "folder").mkdir()
    (model / "folder" / "file").write_text("x")
    with pytest.raises(LyditeError, match="plain file names"):
        bundles.verify(sign(hashing.Config().use_file_serialization()), layout, anchors)


def test_a_layout_of_other_files_is_refused(signed: Path, model: Path, anchors: Anchors) -> None:
    (model / "more").write_text("x")
    other = layouts.write(layouts.lay_out(model))
    with pytest.raises(LyditeError, match="other files"):
        bundles.verify(read(signed).signature, other, anchors)


# The list


def add(whitelist: Whitelist, bundle: Bundle) -> str:
    return asyncio.run(whitelist.add(bundle))


def test_the_list_is_what_settings_and_instructions_made_it(
    tmp_path: Path, signed: Path, anchors: Anchors, key: Path
) -> None:
    other_model = make_model(tmp_path / "other", seed=5, size=2000)
    out = tmp_path / "signed-too"
    out.mkdir()
    other = bundles.sign(other_model, key, out)
    state = tmp_path / "state"
    whitelist = Whitelist(anchors, state, [signed])
    first = next(iter(whitelist.sizes))
    assert add(whitelist, read(out)) == other.root
    assert set(whitelist.sizes) == {first, other.root}
    assert whitelist.sizes[other.root] == other.size

    gone: list[str] = []
    whitelist.on_removal = gone.append
    assert asyncio.run(whitelist.remove(first)) == first
    assert gone == [first]
    with pytest.raises(LyditeError) as unknown:
        asyncio.run(whitelist.remove(first))
    assert unknown.value.reason is Reason.NOT_LISTED

    assert add(whitelist, read(signed)) == first, "an instruction puts it back"
    whitelist.strike(other.root)
    whitelist.strike(other.root)
    assert gone == [first, other.root]
    again = Whitelist(anchors, state, [signed])
    assert set(again.sizes) == {first}, "what else there was, is for the log to say"


def test_a_large_bundle_is_laid_beside_and_adopted_by_its_root(
    tmp_path: Path, signed: Path, anchors: Anchors, model: Path
) -> None:
    root = measure(model).root
    shutil.copytree(signed, tmp_path / "state" / root)
    whitelist = Whitelist(anchors, tmp_path / "state", [])
    assert not whitelist.sizes, "nobody adopted it"
    assert asyncio.run(whitelist.adopt(root)) == root
    assert set(whitelist.sizes) == {root}
    shutil.copytree(signed, tmp_path / "state" / ("0" * 64))
    for name in ("nowhere", f"../state/{root}", "", ".", "0" * 64, "1" * 64):
        with pytest.raises(LyditeError):
            asyncio.run(whitelist.adopt(name))
    assert set(whitelist.sizes) == {root}


def test_no_unsigned_bundle_gets_on_the_list(
    tmp_path: Path, signed: Path, anchors: Anchors
) -> None:
    whitelist = Whitelist(anchors, tmp_path / "state", [])
    bundle, layout = read(signed)
    with pytest.raises(LyditeError):
        add(whitelist, Bundle(forged(bundle, "payload"), layout))
    assert not whitelist.sizes
    assert not list((tmp_path / "state").iterdir())


def test_settings_that_name_no_bundle_are_refused(tmp_path: Path, anchors: Anchors) -> None:
    with pytest.raises(ConfigurationError, match="whitelist"):
        Whitelist(anchors, tmp_path / "state", [tmp_path / "nowhere"])


def test_a_key_is_not_replaced(key: Path) -> None:
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigurationError):
        bundles.create_key(key)


def test_listed_models_have_a_size(tmp_path: Path, key: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "nothing").write_bytes(b"")
    with pytest.raises(LyditeError, match="without a byte"):
        bundles.sign(empty, key, tmp_path)
    shutil.rmtree(empty)
    assert Listed.__doc__
