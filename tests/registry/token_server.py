"""A docker token server: signed tokens for a registry that trusts its certificate.

See https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/ for the two forms of request."""
import base64
import binascii
import collections
import http.server
import json
import secrets
import ssl
import threading
import time
import urllib.parse

from certificates import authority, openssl

request = collections.namedtuple("request", "method service scopes client_id account grant user status")


def text64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class token_server:
    """`users`: names and passwords; whoever has one may do anything. `public`: repositories that anybody may pull.
    `identities`: refresh tokens and the users they stand for. `lifetime`: seconds after which a token is refused; `says`:
    what expires_in claims (None: leaves it out). `allow_post=False`: POST is answered with 405. `requests` is what was asked,
    without secrets; `issued` all tokens given away, which nobody may print."""

    service, issuer = "registry of the test", "tokens of the test"

    def __init__(self, place, users=None, public=(), identities=None, lifetime=300, says=300, allow_post=True, tls=False):
        self.users, self.public, self.identities = dict(users or {}), set(public), dict(identities or {})
        self.lifetime, self.says, self.allow_post, self.tls = lifetime, says, allow_post, tls
        self.authority = authority(place)
        certificate, self.bundle = self.authority.issue(), self.authority.certificate
        self._key = self.authority.place / "signing.key"
        openssl("genrsa", "-out", self._key, 2048)
        request_file, signed = self._key.with_suffix(".csr"), self._key.with_suffix(".crt")
        openssl("req", "-new", "-key", self._key, "-subj", "/CN=tokens", "-out", request_file)
        openssl("x509", "-req", "-in", request_file, "-CA", self.bundle, "-CAkey", self.authority.key, "-CAcreateserial",
                "-days", 10, "-out", signed)
        self._chain = [base64.b64encode(openssl("x509", "-in", signed, "-outform", "DER")).decode()]
        self.requests, self.issued, self._tls_files, self._server = [], [], certificate, None

    def __enter__(self):
        class handler(http.server.BaseHTTPRequestHandler):
            protocol_version, owner = "HTTP/1.1", self

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.owner.answer(self, urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query), self.basic())

            def do_POST(self):
                form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                self.owner.answer(self, urllib.parse.parse_qs(form), None)

            def basic(self):
                kind, _, value = self.headers.get("Authorization", "").partition(" ")
                try:
                    name, _, password = base64.b64decode(value).decode().partition(":")
                except (binascii.Error, UnicodeDecodeError):
                    return None
                return (name, password) if kind.lower() == "basic" else None

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls_files)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.realm = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler, fields, basic):
        """Checks who asks, and answers with a token for what that user may do."""
        def one(name):
            return fields.get(name, [""])[0]

        status, user = 200, None
        if handler.command == "POST" and not self.allow_post:
            status = 405
        elif handler.command == "POST":
            user = self.identities.get(one("refresh_token")) if one("grant_type") == "refresh_token" else \
                self._checked(one("username"), one("password"))
            status = 200 if user else 400 if one("grant_type") == "refresh_token" else 401
        elif basic is not None:
            user = self._checked(*basic)
            status = 200 if user else 401
        scopes = [scope for value in fields.get("scope", []) for scope in value.split(" ")]
        self.requests.append(request(handler.command, one("service"), scopes, one("client_id"), one("account"),
                                     one("grant_type"), user, status))
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "refused"}]}
        if status == 200:
            token = self.token(user, scopes)
            self.issued.append(token)
            body = {"access_token": token} if handler.command == "POST" else {"token": token}
            if self.says is not None:
                body["expires_in"] = self.says
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _checked(self, name, password):
        return name if name in self.users and self.users[name] == password else None

    def token(self, user, scopes):
        """A JWT with what `user` (None: anybody) may do of `scopes`."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [a for a in actions.split(",") if user or (a == "pull" and name in self.public)]
            access.append({"type": kind, "name": name, "actions": allowed})
        # docker-registry grants a minute more than the token says, and looks at it before each answer only.
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": user or "", "aud": self.service, "nbf": now - 60, "iat": now,
                  "exp": now + self.lifetime - 60, "jti": secrets.token_hex(8), "access": access}
        head = {"typ": "JWT", "alg": "RS256", "x5c": self._chain}
        signed = ".".join(text64(json.dumps(part).encode()) for part in (head, claims))
        return signed + "." + text64(openssl("dgst", "-sha256", "-sign", self._key, data=signed.encode()))
