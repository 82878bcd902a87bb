"""`hsm:[ID][?label=TOKEN]`: an EC P-256 key in a PKCS#11 token, through securesystemslib.

ID is the key's CKA_ID as a number (2 when left out: the signature slot of PIV cards); the label chooses the token where
there are several. The PKCS#11 module is named by PYKCS11LIB, the file with the user's PIN by CUSTODY_HSM_PIN_FILE.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from securesystemslib.signer import Signer, SSlibKey

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.settings import load_key_settings
from kfp_custody.components._shared.signers.private_files import read_private_text
from kfp_custody.components._shared.signers.remote import RemoteSigner, p256, wrong_type

_URI = re.compile(r"hsm:([0-9]{0,9})(?:\?label=([^&=]{1,96}))?")
_PIN_VARIABLE = "CUSTODY_HSM_PIN_FILE"


def load(uri: str) -> Signer:
    """Return the signer of a key in a token.

    Raises:
        Misconfigured: no module, token or key, a wrong PIN, or not EC P-256.
        ServiceUnreachable: the token failed.
    """
    from securesystemslib.signer import HSMSigner

    key_id, label = _parse(uri)
    settings = load_key_settings()
    if settings.pkcs11_module is None or not settings.pkcs11_module.is_file():
        raise Misconfigured(
            "The PKCS#11 module of the token cannot be found.",
            evidence=f"PYKCS11LIB is {settings.pkcs11_module or 'not set'}",
            remedy="Set PYKCS11LIB to the module's path, such as /usr/lib/softhsm/libsofthsm2.so.",
            code=codes.KEY_MISSING,
        )

    def pin(_: str) -> str:
        return read_private_text(settings.pin_file, "PIN of the token", _PIN_VARIABLE)

    with _refusals(uri):
        exact, public = HSMSigner.import_(key_id, label, pin)
    if public.scheme != "ecdsa-sha2-nistp256":
        raise wrong_type(uri, f"of scheme {public.scheme}")
    inner = HSMSigner.from_priv_key_uri(exact, public, pin)

    def produce(payload: bytes) -> bytes:
        with _refusals(exact):
            return bytes.fromhex(inner.sign(payload).signature)

    return RemoteSigner(exact, p256(_pem(public), uri), produce)


def _pem(public: SSlibKey) -> bytes:
    return str(public.keyval["public"]).encode()


def _parse(uri: str) -> tuple[int | None, str | None]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise Misconfigured(
            "The signer URI names no key of a token.",
            evidence="hsm: is not followed by a number, by ?label=TOKEN, or by both",
            remedy="Use hsm:2?label=my-token; encode other characters of the label as in a URL.",
            code=codes.SIGNER_URI,
        )
    label = parse_qs(f"label={match[2]}")["label"][0] if match[2] else None
    return (int(match[1]) if match[1] else None), label


@contextmanager
def _refusals(uri: str) -> Iterator[None]:
    """Turn the library's errors into refusals; none of them carries the PIN."""
    from pkcs11 import exceptions

    try:
        yield
    except (exceptions.PinIncorrect, exceptions.PinLocked, exceptions.PinInvalid, exceptions.PinLenRange) as error:
        raise Misconfigured(
            "The token did not accept the PIN.",
            evidence=f"{uri}: {type(error).__name__}",
            remedy=f"Correct the file that {_PIN_VARIABLE} names. Tokens lock after a few wrong tries.",
            code=codes.TOKEN_PIN,
        ) from error
    except ValueError as error:  # securesystemslib: no such token, no such key, several of them, another curve
        raise Misconfigured(
            "The token or the key in it cannot be used.",
            evidence=f"{uri}: {error}",
            remedy="Check the number and the label in the signer URI; the key must be EC P-256, with its public half.",
            code=codes.KEY_MISSING,
        ) from error
    except exceptions.PKCS11Error as error:
        raise ServiceUnreachable(
            "The hardware token failed.",
            evidence=f"{uri}: {type(error).__name__}",
            remedy="Check that the token is connected and initialised, and that its module belongs to it.",
            code=codes.KEY_SERVICE,
        ) from error
