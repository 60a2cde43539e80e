"""A certificate authority of the test, made by the openssl command."""
import ipaddress
import pathlib
import subprocess

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def openssl(*words, data=None):
    return subprocess.run(["openssl", *map(str, words)], input=data, capture_output=True, check=True).stdout


def is_address(name):
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return False


class authority:
    """`certificate` is a file to trust; `folder` is the same as a directory in the form of certs.d (`ca.crt`)."""

    def __init__(self, place):
        self.place, self.folder, self._issued = pathlib.Path(place), pathlib.Path(place) / "certs.d", 0
        self.folder.mkdir(parents=True)
        self.key, self.certificate = self.place / "ca.key", self.folder / "ca.crt"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 30, "-subj",
                "/CN=authority of the test", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key,
                "-out", self.certificate)

    def issue(self, names=LOOPBACK, days=10):
        """(certificate, key): a new key, valid for these names and addresses, for servers and clients."""
        self._issued += 1
        base = self.place / f"issued-{self._issued}"
        key, request, certificate, more = (base.with_suffix(x) for x in (".key", ".csr", ".crt", ".ext"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                f"/CN={names[0]}", "-keyout", key, "-out", request)
        listed = ",".join(f"{'IP' if is_address(name) else 'DNS'}:{name}" for name in names)
        more.write_text(f"subjectAltName={listed}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", days,
                "-extfile", more, "-out", certificate)
        return certificate, key
