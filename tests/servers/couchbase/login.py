"""How a client proves that it knows a password: PLAIN, and SCRAM as in RFC 5802."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping

from tests.servers.couchbase.wire import Refusal, Status

_DIGESTS = {"SCRAM-SHA512": "sha512", "SCRAM-SHA256": "sha256", "SCRAM-SHA1": "sha1"}
_ROUNDS = 1000
MECHANISMS = b" ".join(name.encode() for name in (*_DIGESTS, "PLAIN"))


class Login:
    """
    The login of one connection.

    :param passwords: by user
    :ivar user: who has proved it; ``None`` until then
    """

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self.user: str | None = None
        self._passwords = passwords
        self._name = ""
        self._digest = ""
        self._said = b""
        self._nonce = b""
        self._salt = secrets.token_bytes(16)

    def begin(self, mechanism: str, message: bytes) -> tuple[Status, bytes]:
        if mechanism == "PLAIN":
            _, name, password = message.decode().split("\0")
            if self._passwords.get(name) != password:
                raise Refusal(Status.AUTH_ERROR)

            self.user = name
            return Status.SUCCESS, b""

        if mechanism not in _DIGESTS:
            raise Refusal(Status.INVALID)

        self._digest = _DIGESTS[mechanism]
        bare = message.partition(b",,")[2]
        fields = _fields(bare)
        self._name = fields["n"].decode().replace("=2C", ",").replace("=3D", "=")
        self._nonce = fields["r"] + secrets.token_hex(16).encode()
        first = b"r=%s,s=%s,i=%d" % (self._nonce, b64encode(self._salt), _ROUNDS)
        self._said = bare + b"," + first
        return Status.AUTH_CONTINUE, first

    def go_on(self, message: bytes) -> tuple[Status, bytes]:
        fields = _fields(message)
        said = self._said + b"," + message.rpartition(b",p=")[0]
        password = self._passwords.get(self._name, secrets.token_hex())
        salted = hashlib.pbkdf2_hmac(self._digest, password.encode(), self._salt, _ROUNDS)
        key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self._digest, key).digest(), said)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if fields["r"] != self._nonce or b64decode(fields["p"]) != proof:
            raise Refusal(Status.AUTH_ERROR)

        self.user = self._name
        return Status.SUCCESS, b"v=" + b64encode(self._mac(self._mac(salted, b"Server Key"), said))

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._digest).digest()


def _fields(message: bytes) -> dict[str, bytes]:
    parts = (part.partition(b"=") for part in message.split(b","))
    return {name.decode(): value for name, _, value in parts}
