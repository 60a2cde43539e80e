"""Debian's registry, and what lies between it and us."""
import re
import subprocess

from debian_registry import debian_registry
from fault_proxy import asked_again, fault, fault_proxy, random_faults
from layouts import write_layout
from made_images import directory, file, noise, tar_of
from scripted_registry import made_image
from token_server import token_server
from trial import ALWAYS, DIGEST, IMAGE, LARGE, MANY, NOT_THERE, REFUSED, answer, case, each

# Several layers of several megabytes.
HEAVY = made_image([tar_of([directory("d"), file(f"d/{n}", noise(f"heavy{n}", (2 + n) << 20))]) for n in range(4)], compress=False)


def debian(t, image=IMAGE, name="app:1", **more):
    registry = t.enter(debian_registry(**more))
    registry.push(f"oci:{write_layout(t.place / 'layout', image, '1')}:1", name)
    return registry


@each("pulled from Debian's registry, each blob once", {"small": IMAGE, "many": MANY})
def debian_plain(t, image):
    registry = debian(t, image)
    t.pulls(f"{registry.host}/app:1", image=image)
    counts = registry.blob_gets()
    t.check({digest: counts[digest] for digest in image.blobs} == {digest: 1 for digest in image.blobs}, f"GETs of blobs: {counts}")


@case("Debian's registry with TLS")
def debian_tls(t):
    registry = debian(t, tls=True)
    t.pulls(f"{registry.host}/app:1", "--cert-dir", registry.authority.folder)


@case("Debian's registry with passwords")
def debian_users(t):
    t.login()
    registry = debian(t, users={"alice": "correct horse"})
    t.pulls(f"{registry.host}/app:1", "--creds", "alice:correct horse")
    t.fails(f"{registry.host}/app:1", "--creds", "alice:wrong", words=f"{REFUSED}|{NOT_THERE}")
    t.fails(f"{registry.host}/app:1", words=f"{REFUSED}|{NOT_THERE}")


@case("om login keeps a login that skopeo and om find, om logout removes it; a wrong one is not kept")
def login_and_logout(t):
    t.login()
    t.secret("wrong horse")
    registry = debian(t, users={"alice": "correct horse"})
    file = t.place / "auth.json"
    login = ["login", registry.host, "--authfile", file, "--username", "alice"]
    t.failed(t.om(*login, "--password", "wrong horse"), REFUSED)
    t.check(not file.exists(), "a wrong login is kept")
    t.check(t.om(*login, "--password", "correct horse").status == 0, "no login")
    t.check(file.stat().st_mode & 0o777 == 0o600, "others may read it")
    seen = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", file, f"docker://{registry.host}/app:1"],
                          check=False, capture_output=True)
    t.check(seen.stdout == IMAGE.data, f"skopeo does not find it: {seen.stderr}")
    t.pulls(f"{registry.host}/app:1", "--authfile", file)
    t.check(t.om("logout", registry.host, "--authfile", file).status == 0, "no logout")
    t.fails(f"{registry.host}/app:1", "--authfile", file, words=f"{REFUSED}|{NOT_THERE}")
    t.check(t.om("logout", registry.host, "--authfile", file).status == 1, "a second logout")


@case("a login is durable when om login returns: the file before its name, the name and each new directory")
def login_durable(t):
    login, _ = t.login()
    server = t.registry().expect("GET", "/v2/", answer(200), times=ALWAYS)
    top, log = t.place / "top", t.place / "calls"
    top.mkdir()
    file = top / "new" / "folder" / "auth.json"
    done = subprocess.run(["strace", "-f", "-y", "-o", log, "-e", "trace=mkdir,mkdirat,fsync,renameat,renameat2",
                           *t.line("login", server.host, "--authfile", file, "-u", "alice", "-p", login.split(":", 1)[1])], env=t.environment, check=False, capture_output=True)
    t.check(done.returncode == 0, f"{done}")
    calls = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    at = {what: next((i for i, line in enumerate(calls) if re.search(what, line)), -1) for what in (
        rf'^mkdir.*"{top}/new"', rf"^fsync\(\d+<{top}>", rf'^mkdir.*"{top}/new/folder"', rf"^fsync\(\d+<{top}/new>",
        rf"^fsync\(\d+<{top}/new/folder/\.", r'^renameat.*"auth\.json"', rf"^fsync\(\d+<{top}/new/folder>")}
    t.check(-1 < min(at.values()) and list(at.values()) == sorted(at.values()), f"{at} in {calls}")


@case("a login that skopeo kept is removed by om, and the other way round")
def login_of_skopeo(t):
    t.login()
    registry = debian(t, users={"alice": "correct horse"})
    file = t.place / "auth.json"
    subprocess.run(["skopeo", "login", "--tls-verify=false", "--authfile", file, "-u", "alice", "-p", "correct horse", registry.host],
                   check=True, capture_output=True)
    t.pulls(f"{registry.host}/app:1", "--authfile", file)
    t.check(t.om("logout", registry.host, "--authfile", file).status == 0, "no logout")
    t.check(t.om("login", registry.host, "--authfile", file, "-u", "alice", "-p", "correct horse").status == 0, "no login")
    subprocess.run(["skopeo", "logout", "--authfile", file, registry.host], check=True, capture_output=True)
    t.fails(f"{registry.host}/app:1", "--authfile", file, words=f"{REFUSED}|{NOT_THERE}")


@case("Debian's registry behind a token server: a public and a private repository")
def debian_tokens(t):
    t.login()
    tokens = t.enter(token_server(t.place / "tokens", users={"alice": "correct horse"}, public={"free"}))
    registry = debian(t, name="free:1", tokens=tokens)
    registry.push(f"oci:{t.place / 'layout'}:1", "private:1")
    before = len(tokens.requests)
    t.pulls(f"{registry.host}/free:1")
    t.check(len(tokens.requests) == before + 1, f"{len(tokens.requests) - before} tokens for one pull")
    t.fails(f"{registry.host}/private:1", words=f"{REFUSED}|{NOT_THERE}")
    done = t.pulls(f"{registry.host}/private:1", "--creds", "alice:correct horse")
    t.check(not [token for token in tokens.issued if token in done.out + done.err], "a token is printed")


@case("tokens that end while layers are under way")
def debian_short_tokens(t):
    t.login()
    tokens = t.enter(token_server(t.place / "tokens", users={"alice": "correct horse"}))
    registry = debian(t, HEAVY, tokens=tokens)
    tokens.lifetime = 2
    tokens.requests.clear()
    proxy = t.enter(fault_proxy(registry.port, rate=3 << 19, faults=[fault("cut", 1 << 20, times=4)]))
    t.pulls(f"127.0.0.1:{proxy.port}/app:1", "--creds", "alice:correct horse", image=HEAVY)
    t.check(2 <= len(tokens.requests) <= 12, f"{len(tokens.requests)} tokens")
    t.check(asked_again(proxy.log) == [], f"asked again for {asked_again(proxy.log)}")


@each("cut every 0.5 to 2 MiB: pulled, and no byte is asked for twice", {"cut": ("cut",), "reset": ("reset",), "both": ("cut", "reset")})
def debian_cuts(t, actions):
    registry = debian(t, HEAVY)
    proxy = t.enter(fault_proxy(registry.port, at_random=random_faults(1 << 19, 2 << 20, 7, actions)))
    t.pulls(f"127.0.0.1:{proxy.port}/app:1", image=HEAVY, timeout=180)
    t.check(len([entry for entry in proxy.log if entry.fault]) >= 6, f"too few faults: {proxy.log}")
    t.check(actions != ("cut",) or asked_again(proxy.log) == [], f"asked again for {asked_again(proxy.log)}")


@case("a layer with one wrong byte is refused")
def debian_flip(t):
    proxy = t.enter(fault_proxy(debian(t, LARGE).port, [fault("flip", 1000000, match=LARGE.layer_digests[0], times=99)]))
    t.fails(f"127.0.0.1:{proxy.port}/app:1", words=f"{DIGEST}|diff ID")


@case("a stalled layer is resumed, and no byte is asked for twice", slow=True)
def debian_stall(t):
    proxy = t.enter(fault_proxy(debian(t, LARGE).port, [fault("stall", 1000000, match=LARGE.layer_digests[0])]))
    t.pulls(f"127.0.0.1:{proxy.port}/app:1", image=LARGE, timeout=180)
    t.check(asked_again(proxy.log) == [], f"asked again for {asked_again(proxy.log)}")


@case("bodies in pieces of one byte")
def debian_pieces(t):
    proxy = t.enter(fault_proxy(debian(t).port, piece=1))
    t.pulls(f"127.0.0.1:{proxy.port}/app:1")


@case("100 Mbit/s with a round trip of 50 ms")
def debian_slow_line(t):
    proxy = t.enter(fault_proxy(debian(t, HEAVY).port, rate=100e6 / 8, latency=0.05))
    t.pulls(f"127.0.0.1:{proxy.port}/app:1", image=HEAVY)
