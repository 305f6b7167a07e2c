"""The SSH transport's tuning: which algorithms are offered, in which order, and how a packet travels."""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paramiko

from runner.public_keys import CERTIFICATE_SUFFIX
from runner.ssh import chacha, legacy
from runner.ssh.dial import SSH_VERSION
from runner.ssh.negotiation import Mismatch, Offer, find_mismatches, strip_marks
from runner.ssh.packetizer import BulkPacketizer
from runner.ssh.questions import StrictAuthHandler
from runner.ssh.tunnel import Tunnel
from runner.ssh.window import RECEIVE_WINDOW_BYTES

if TYPE_CHECKING:
    from runner.findings import Algorithms

# AES-GCM first: it is both the safest and, by a factor of two, the fastest. ChaCha20 comes last, for servers that have
# nothing else: without a strict key exchange it is open to the Terrapin attack. No CBC, no 3DES.
CIPHERS = (
    *("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"),
    chacha.NAME,
)
# Ciphers that authenticate what they encrypt: the MAC that was agreed on is not used.
AUTHENTICATED_CIPHERS = (*CIPHERS[:2], chacha.NAME)
# No SHA-1 and no MD5; encrypt-then-mac first. AES-GCM needs none of them.
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
# Two names of one key exchange; paramiko knows the older one only.
LIBSSH, RFC_8731 = "curve25519-sha256@libssh.org", "curve25519-sha256"
KEX = (
    "mlkem768x25519-sha256",
    LIBSSH,
    RFC_8731,
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)

# RFC 8332: how an RSA key of the user's signs, best first.
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")

# RFC 8308 section 2.5 knows four; OpenSSH sends two.
MAX_EXTENSIONS = 64

# RFC 4253 section 11.1
DISCONNECT_BY_APPLICATION = 11

SERVICE_POLL_SECONDS = 0.1

# paramiko logs every failure that we report ourselves, with a traceback; without a handler Python prints them.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class NoSignatureInCommon(paramiko.AuthenticationException):
    """The server has said which signatures it takes (RFC 8308 section 3.1), and the key makes none of them."""

    def __init__(self, ours: tuple[str, ...], taken: tuple[str, ...]) -> None:
        super().__init__("no signature in common")
        self.ours = ours
        self.taken = taken


class _Login(StrictAuthHandler):
    """Ready for the answer before the question is sent, since it may come at once."""

    def send_auth_request(
        self, username: str, method: str, finish_message: Callable[[paramiko.Message], None] = lambda message: None
    ) -> list[str]:
        self.auth_method, self.username = method, username
        self.auth_event = threading.Event()
        request = paramiko.Message()
        request.add_byte(paramiko.common.cMSG_USERAUTH_REQUEST)
        for text in (username, "ssh-connection", method):
            request.add_string(text)
        finish_message(request)
        with self.transport.lock:
            self.transport._send_message(request)
        return list(self.wait_for_response(self.auth_event))

    def auth_publickey(self, username: str, key: paramiko.PKey) -> list[str]:
        if "rsa" in self._get_key_type_and_bits(key)[0]:
            # Which of RSA's signatures the server takes, it has told before it lets the login begin (RFC 8308).
            self.transport.wait_for_service()
        return list(super().auth_publickey(username, key))

    def _finalize_pubkey_algorithm(self, key_type: str) -> str:
        """The signature to make with a key: the best that the server takes; our best if it does not say."""
        if "rsa" not in key_type:
            return key_type
        ours: tuple[str, ...] = self.transport.rsa_signatures
        taken: tuple[str, ...] = self.transport.signatures_taken
        chosen = next((name for name in ours if name in taken or not taken), None)
        if chosen is None:
            raise NoSignatureInCommon(ours, taken)
        self.transport.note_signature(chosen)
        return chosen + (CERTIFICATE_SUFFIX if key_type.endswith(CERTIFICATE_SUFFIX) else "")


def _read_offer(parsed: dict[str, Any]) -> Offer:
    """What the server's KEXINIT offers, as paramiko has taken it apart."""

    def both_ways(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(parsed[f"client_{kind}_algo_list"]), tuple(parsed[f"server_{kind}_algo_list"])

    return Offer(
        key_exchange=strip_marks(parsed["kex_algo_list"]),
        host_key=tuple(parsed["server_key_algo_list"]),
        ciphers=both_ways("encrypt"),
        macs=both_ways("mac"),
        compressions=both_ways("compress"),
    )


def _note_refusal(channel: Any, message: paramiko.Message) -> None:
    """Keep apart what paramiko tells alike: a request that the server refuses, and a channel that has ended."""
    channel.was_refused = True
    channel._request_failed(message)


class StrictTransport(paramiko.ServiceRequestingTransport):
    """A client transport that offers strong algorithms and exactly the given host key algorithms."""

    _cipher_info = {
        **paramiko.Transport._cipher_info,
        chacha.NAME: {
            "class": chacha.ChaChaKeys,
            "block-size": 8,
            "iv-size": 0,
            "key-size": 2 * chacha.KEY_BYTES,
            "is_aead": True,
        },
    }
    # None of these is offered unless the playbook names it.
    _mac_info = {
        **paramiko.Transport._mac_info,
        "hmac-sha1-etm@openssh.com": paramiko.Transport._mac_info["hmac-sha1"],
    }
    _kex_info = {
        **paramiko.Transport._kex_info,
        **({RFC_8731: paramiko.Transport._kex_info[LIBSSH]} if LIBSSH in paramiko.Transport._kex_info else {}),
        **{one.name: one for one in (legacy.KexGexSHA1, legacy.KexGroup14SHA1, legacy.KexGroup1SHA1)},
    }
    _key_info = {**paramiko.Transport._key_info, legacy.SHA1_SIGNATURE: legacy.Sha1HostKey}
    _channel_handler_table = {
        **paramiko.Transport._channel_handler_table,
        paramiko.common.MSG_CHANNEL_FAILURE: _note_refusal,
    }

    def __init__(
        self,
        sock: socket.socket | Tunnel,
        host_key_algorithms: tuple[str, ...],
        find_lost_hop: Callable[[], str] = lambda: "",
        *,
        is_greeted: bool = False,
        legacy_algorithms: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        """`is_greeted` says whether the server has been sent our greeting. `find_lost_hop` tells in words which
        connection to a jump host on the way broke off; empty if none did. `legacy_algorithms` are offered behind all
        others, those for host keys among `host_key_algorithms`.
        """
        self.find_lost_hop = find_lost_hop
        self._legacy = legacy_algorithms
        self._server_offer: Offer | None = None
        self._signed_with: tuple[str, ...] = ()
        self.rsa_signatures = RSA_SIGNATURES + legacy.choose(legacy.SIGNATURES, legacy_algorithms)
        self._take_over: Callable[[paramiko.Channel], None] | None = None
        # What the server says about a channel that it does not open.
        self.refusal_text = ""
        super().__init__(sock, default_window_size=RECEIVE_WINDOW_BYTES, packetizer_class=BulkPacketizer, **options)
        self.local_version = SSH_VERSION
        self.packetizer.is_greeted = is_greeted
        self.auth_handler: _Login | None = None
        self._service_accepted = threading.Event()
        supported = self.get_security_options()
        supported.ciphers = CIPHERS + legacy.choose(legacy.CIPHERS, legacy_algorithms)
        supported.digests = MACS + legacy.choose(legacy.MACS, legacy_algorithms)
        kex = tuple(name for name in KEX if name in self._kex_info)
        supported.kex = kex + legacy.choose(legacy.KEX, legacy_algorithms)
        supported.key_types = host_key_algorithms

    def _sanitize_window_size(self, window_size: int | None) -> int:
        """As given. paramiko makes it 32 KiB at least, which is half a minute's worth of a `bandwidth_limit` of 1K."""
        return RECEIVE_WINDOW_BYTES if window_size is None else window_size

    @property
    def saved_exception(self) -> Exception | None:
        """What ended the transport's thread; `Transport` raises it in whichever thread waits."""
        return self._saved_exception

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        # Transport takes messages apart without checking them, so that any of these may come of a server's nonsense.
        if isinstance(error, ValueError | LookupError | ArithmeticError | struct.error):
            unreadable = paramiko.SSHException(f"the server sent a message that cannot be read ({error})")
            unreadable.__cause__ = error
            error = unreadable
        self._saved_exception = error

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms to offer. paramiko adds certificate variants to all of them, and puts them last."""
        names: tuple[str, ...] = self.get_security_options().key_types
        return names

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        # paramiko takes a certificate where a plain key was agreed on, and the other way round; OpenSSH does not
        # (kexgen.c, input_kex_gen_reply).
        type_name = paramiko.Message(host_key).get_text()
        if type_name.endswith(CERTIFICATE_SUFFIX) != self.host_key_type.endswith(CERTIFICATE_SUFFIX):
            raise paramiko.SSHException(
                f"the server sent a host key of type {type_name[:60]}, not {self.host_key_type}"
            )
        super()._verify_key(host_key, sig)

    def ensure_session(self) -> None:
        """Ask for the login service, once, and do not wait for the answer: the login follows on its heels.

        That saves a round trip, and is allowed because every key exchange that we offer proves the server's identity
        (RFC 4253 section 10). paramiko would look for the answer ten times a second.
        """
        if not self.active or not self.initial_kex_done:
            raise self.get_exception() or paramiko.SSHException("the connection ended before the login")
        if self.auth_handler is not None:
            return
        self.auth_handler = _Login(self)
        request = paramiko.Message()
        request.add_byte(paramiko.common.cMSG_SERVICE_REQUEST)
        request.add_string("ssh-userauth")
        self._send_message(request)

    def wait_for_service(self) -> None:
        """Wait until the server has let the login begin, or has gone."""
        while self.is_active() and not self._service_accepted.wait(SERVICE_POLL_SECONDS):
            pass

    def _parse_service_accept(self, message: paramiko.Message) -> None:
        super()._parse_service_accept(message)
        self._service_accepted.set()

    def _really_parse_kex_init(self, m: paramiko.Message, ignore_first_byte: bool = False) -> dict[str, Any]:
        # paramiko forgets which method it was once the keys are in use. The client's first choice that the server has
        # is it (RFC 4253 section 7.1).
        parsed: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte)
        if not ignore_first_byte:
            self._server_offer = _read_offer(parsed)
        offered = set(parsed["kex_algo_list"])
        self._key_exchange = next((name for name in self.get_security_options().kex if name in offered), "")
        # A cipher that authenticates needs no MAC. paramiko asks for one in common all the same; OpenSSH does not
        # (kex.c, kex_choose_conf).
        for side in ("client", "server"):
            cipher = next((name for name in CIPHERS if name in parsed[f"{side}_encrypt_algo_list"]), "")
            if cipher in AUTHENTICATED_CIPHERS:
                parsed[f"{side}_mac_algo_list"] += MACS[:1]
        return parsed

    def _activate_inbound(self) -> None:
        self.packetizer.expects_cbc = self.remote_cipher in legacy.CIPHERS
        super()._activate_inbound()

    @property
    def mismatches(self) -> list[Mismatch]:
        """In which kinds of algorithms the server has none of those that it was offered."""
        if self._server_offer is None:
            return []
        supported = self.get_security_options()
        ours = Offer(
            key_exchange=supported.kex,
            host_key=supported.key_types,
            ciphers=(supported.ciphers, supported.ciphers),
            macs=(supported.digests, supported.digests),
            compressions=(supported.compression, supported.compression),
        )
        return find_mismatches(ours, self._server_offer, AUTHENTICATED_CIPHERS)

    @property
    def legacy_used(self) -> tuple[str, ...]:
        """The legacy algorithms that this connection rests on."""
        used = {self._key_exchange, self.host_key_type, self.local_cipher, self.remote_cipher, *self._signed_with}
        macs = ((self.local_cipher, self.local_mac), (self.remote_cipher, self.remote_mac))
        used |= {mac for cipher, mac in macs if cipher not in AUTHENTICATED_CIPHERS}
        return tuple(name for name in self._legacy if name in used)

    @property
    def methods_left(self) -> tuple[str, ...]:
        """The methods of login that the server said last can continue; none if it has not said."""
        return self.auth_handler.methods_left if self.auth_handler is not None else ()

    @property
    def signatures_taken(self) -> tuple[str, ...]:
        """The signatures of user's keys that the server says it takes (RFC 8308 section 3.1); none if it does not say."""
        written = self.server_extensions.get("server-sig-algs", b"")
        try:
            text = written.decode() if isinstance(written, bytes) else str(written)
        except UnicodeDecodeError as error:
            raise paramiko.SSHException("the server says in no text which signatures it takes") from error
        return tuple(name for name in text.split(",") if name)

    @property
    def may_want_sha1(self) -> bool:
        """Whether an RSA key may have been refused for its signature: the server takes SHA-1, or does not say."""
        taken = self.signatures_taken
        return legacy.SHA1_SIGNATURE not in self.rsa_signatures and (not taken or legacy.SHA1_SIGNATURE in taken)

    def fall_back_to_sha1(self, key_type: str) -> bool:
        """Have a key of that type sign with SHA-1 next, if that is allowed and has not just been done.

        OpenSSH before 9.6 says that it takes all signatures, whatever its PubkeyAcceptedAlgorithms are.
        """
        taken = self.signatures_taken
        is_allowed = "rsa" in key_type and legacy.SHA1_SIGNATURE in self._legacy
        has_been_done = bool(taken) and not set(RSA_SIGNATURES) & set(taken)
        if not is_allowed or has_been_done or (taken and legacy.SHA1_SIGNATURE not in taken):
            return False
        self.rsa_signatures = legacy.SIGNATURES
        return True

    def end_fallback(self) -> None:
        """Have further keys sign in the ordinary way."""
        self.rsa_signatures = RSA_SIGNATURES + legacy.SIGNATURES

    @property
    def agreed(self) -> Algorithms:
        """What has been agreed on with the server."""
        # A play does not ask, and need not load this.
        from runner.findings import Algorithms

        ciphers = (self.local_cipher, self.remote_cipher)
        signs_itself = [name in AUTHENTICATED_CIPHERS for name in ciphers]
        macs = [
            "" if signs else mac for signs, mac in zip(signs_itself, (self.local_mac, self.remote_mac), strict=True)
        ]
        return Algorithms(
            key_exchange=self._key_exchange,
            host_key=self.host_key_type,
            ciphers=ciphers,
            macs=(macs[0], macs[1]),
            compressions=(self.local_compression, self.remote_compression),
            is_strict=self.agreed_on_strict_kex,
        )

    def note_signature(self, algorithm: str) -> None:
        """A login is signed with an algorithm of the user's key."""
        self._signed_with = (algorithm.removesuffix(CERTIFICATE_SUFFIX),)

    def _parse_ext_info(self, m: paramiko.Message) -> None:
        # paramiko reads on behind a message's end, as often as the server says.
        count = int.from_bytes(m.asbytes()[:4], "big")
        if count > MAX_EXTENSIONS:
            raise paramiko.SSHException(f"the server announces {count:,} extensions")
        super()._parse_ext_info(m)

    @property
    def stage(self) -> str:
        """What the handshake is waiting for, in words."""
        if not self.remote_version:
            return "the server's SSH banner"
        if not self.initial_kex_done:
            return "the key exchange"
        return "the answer to the authentication request"

    def ask_for_verdict(self) -> None:
        """A login is about to be tried: whatever the server has said so far is not the answer to it."""
        self.packetizer.last_message_type = 0

    @property
    def was_cut(self) -> bool:
        """Whether the connection ended without a word: neither a refused login nor a DISCONNECT was the last message."""
        verdicts = (paramiko.common.MSG_USERAUTH_FAILURE, paramiko.common.MSG_DISCONNECT)
        return not self.is_active() and self.packetizer.last_message_type not in verdicts

    def open_tunnel(
        self, host: str, port: int, take_over: Callable[[paramiko.Channel], Tunnel], timeout_seconds: float
    ) -> Tunnel:
        """A tunnel from the server to `host` and `port`. No other channel may be opened meanwhile.

        `take_over` is called in this transport's thread, where nothing can arrive before it is done: what was connected
        to may speak first. Raises paramiko's exceptions.
        """
        tunnels: list[Tunnel] = []
        self._take_over = lambda raw: tunnels.append(take_over(raw))
        try:
            # RFC 4254 section 7.2; the originator's address is for the server's log.
            self.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=timeout_seconds)
        finally:
            self._take_over = None
        return tunnels[0]

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        if self._take_over is None:
            super()._parse_channel_open_success(message)
            return
        channel_id = message.get_int()
        message.rewind()
        # Whoever waits for the channel is woken by it, and must not be before the channel is taken over.
        opened = self.channel_events.pop(channel_id, None)
        super()._parse_channel_open_success(message)
        raw = self._channels.get(channel_id)
        if opened is not None and raw is not None:
            self._take_over(raw)
            opened.set()

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        message.get_int()
        message.get_int()
        self.refusal_text = message.get_text()
        message.rewind()
        super()._parse_channel_open_failure(message)

    @property
    def can_write_at_once(self) -> bool:
        """Whether a short message can be written without waiting."""
        if isinstance(self.sock, Tunnel):
            return self.sock.can_write_at_once
        poller = select.poll()
        try:
            poller.register(self.sock, select.POLLOUT)
        except ValueError:
            return False  # it is closed
        return bool(poller.poll(0))

    def say_goodbye(self) -> bool:
        """Tell the server that the session ends on purpose, if that can be done without waiting. Whether it was done.

        Without it sshd logs each session as one that was reset by its peer.
        """
        if not self.can_write_at_once:
            return False
        message = paramiko.Message()
        message.add_byte(paramiko.common.cMSG_DISCONNECT)
        message.add_int(DISCONNECT_BY_APPLICATION)
        message.add_string("the runner is done")
        message.add_string("")
        self._send_message(message)
        return True
