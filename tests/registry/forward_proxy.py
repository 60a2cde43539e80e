"""An HTTP proxy as companies have one: CONNECT for https, the absolute form for http."""
import base64
import re
import socket
import socketserver
import threading
import urllib.parse


class forward_proxy:
    """`seen`: (method, target, Proxy-Authorization) of each request. `login`: NAME:PASSWORD that it wants, else 407. `to`: a
    dict of HOST:PORT and (address, port) where they really are, for names that do not resolve."""

    def __init__(self, address="127.0.0.1", port=0, login=None, to=None):
        self.address, self._port, self.login, self.to, self.seen = address, port, login, dict(to or {}), []

    def __enter__(self):
        class handler(socketserver.StreamRequestHandler):
            owner = self

            def handle(self):
                self.owner.one(self.rfile, self.connection)

        class server(socketserver.ThreadingTCPServer):
            daemon_threads, allow_reuse_address = True, True

        self._server = server((self.address, self._port), handler)
        self.port = self._server.server_address[1]
        self.host = f"{self.address}:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def one(self, reader, client):
        head = b""
        while (line := reader.readline(1 << 16)) not in (b"\r\n", b""):
            head += line
        if not head:
            return
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        found = re.search(rb"(?im)^proxy-authorization:[ \t]*([^\r\n]*)", head)
        self.seen.append((method, target, found[1].decode("latin-1") if found else None))
        wanted = self.login and b"Basic " + base64.b64encode(self.login.encode())
        if wanted and (not found or found[1] != wanted):
            client.sendall(b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="proxy"\r\nContent-Length: 0\r\n'
                           b"Connection: close\r\n\r\n")
            return
        url = urllib.parse.urlsplit(target if method != "CONNECT" else f"//{target}")
        where = (url.hostname, url.port or (443 if method == "CONNECT" else 80))
        try:
            server = socket.create_connection(self.to.get(f"{where[0]}:{where[1]}", where), timeout=10)
        except OSError:
            client.sendall(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        server.settimeout(None)
        with server:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:  # one request a connection
                path = target[len(url.scheme) + 3 + len(url.netloc):] or "/"
                lines = [x for x in head.split(b"\r\n")[1:] if not x.lower().startswith((b"proxy-", b"connection:"))]
                server.sendall(f"{method} {path} HTTP/1.1\r\n".encode() + b"\r\n".join([b"Connection: close", *filter(None, lines)]) +
                               b"\r\n\r\n")
            there = threading.Thread(target=pump, args=(client, server), daemon=True)
            there.start()
            pump(server, client)


def pump(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
