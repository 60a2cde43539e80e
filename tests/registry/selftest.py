#!/usr/bin/env python3
"""Runs each server of this folder once, with curl and skopeo as clients. selftest.py [NAME...]

Exit status 77: a program is missing."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
from certificates import authority  # noqa: E402
from debian_registry import debian_registry, need_programs  # noqa: E402
from fault_proxy import asked_again, fault, fault_proxy, random_faults  # noqa: E402
from forward_proxy import forward_proxy  # noqa: E402
from layouts import write_layout  # noqa: E402
from made_images import CHANGES, base_layer, directory, file, noise, tar_of  # noqa: E402
from scripted_registry import answer, challenge, expect, made_image, made_index, redirect, scripted_registry  # noqa: E402
from token_server import token_server  # noqa: E402

SMALL = made_image([base_layer(files=3), CHANGES])
BIG = made_image([tar_of([directory("d"), file("d/noise", noise("big", 24 << 20))])], compress=False)


def check(true, text):
    if not true:
        raise AssertionError(text)


def run(*words):
    return subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=60)


def curl(*words):
    return run("curl", "-sS", "--max-time", 20, *words)


def pulled(host, name, place, *options, tls=False):
    """Whether skopeo can copy the image into a directory, and what it says."""
    done = run("skopeo", "--insecure-policy", "copy", *([] if tls else ["--src-tls-verify=false"]), *options,
               f"docker://{host}/{name}", f"dir:{tempfile.mkdtemp(dir=place)}")
    return done.returncode == 0, done.stderr.strip()


def debian_plain(place):
    with debian_registry() as registry:
        registry.push(f"oci:{write_layout(place / 'l', SMALL, '1')}:1", "app:1")
        check(pulled(registry.host, "app:1", place)[0], "no pull")
        raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/app:1").stdout
        check(raw.encode() == SMALL.data, "another manifest came back")
        counts = registry.blob_gets()
        check(all(counts[digest] == 1 for digest in SMALL.blobs), f"GETs of blobs: {counts}")
        check(any(a.method == "PUT" and a.status == 201 for a in registry.accesses()), "no PUT in the access log")
        process = registry._process
    check(process.poll() is not None, "docker-registry still runs")


def debian_tls_and_users(place):
    with debian_registry(tls=True, users={"alice": "open sesame"}) as registry:
        registry.push(f"oci:{write_layout(place / 'l', SMALL, '1')}:1", "app:1")
        trust = ("--src-cert-dir", registry.authority.folder)
        check(pulled(registry.host, "app:1", place, *trust, "--src-creds", "alice:open sesame", tls=True)[0], "no pull")
        check(not pulled(registry.host, "app:1", place, *trust, "--src-creds", "alice:wrong", tls=True)[0], "wrong password")
        check(not pulled(registry.host, "app:1", place, "--src-creds", "alice:open sesame", tls=True)[0], "not trusted")
        check(curl("-o", "/dev/null", "-w", "%{http_code}", "--cacert", registry.authority.certificate,
                   f"https://localhost:{registry.port}/v2/").stdout == "401", "no 401 for localhost")


def tokens(place):
    with token_server(place / "tokens", users={"alice": "secret"}, public={"free"}, identities={"long": "alice"},
                      lifetime=2) as server:
        with debian_registry(tokens=server) as registry:
            layout = write_layout(place / "l", SMALL, "1")
            for name in ("free:1", "private:1"):
                registry.push(f"oci:{layout}:1", name)
            server.requests.clear()
            check(pulled(registry.host, "free:1", place)[0], "no anonymous pull")
            check([r.user for r in server.requests] == [None], f"tokens: {server.requests}")
            check(not pulled(registry.host, "private:1", place)[0], "an anonymous pull of a private repository")
            check(pulled(registry.host, "private:1", place, "--src-creds", "alice:secret")[0], "no pull with a password")
            scope = "repository:private:pull"
            answered = json.loads(curl("-d", f"grant_type=refresh_token&refresh_token=long&service=s&scope={scope}", server.realm).stdout)
            check(server.requests[-1].user == "alice" and server.requests[-1].scopes == [scope], "refresh token")
            manifest = ("-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {answered['access_token']}",
                        "-H", f"Accept: {SMALL.media_type}", f"{registry.url}/v2/private/manifests/1")
            check(curl(*manifest).stdout == "200", "the token is no good")
            time.sleep(3)
            check(curl(*manifest).stdout == "401", "the token lives too long")
            check(curl("-o", "/dev/null", "-w", "%{http_code}", "-u", "alice:no", server.realm).stdout == "401", "wrong password")


def fault_proxy_as_library(place):
    with scripted_registry() as registry:
        registry.serve(BIG, "app", "1")
        digest, data = BIG.layer_digests[0], BIG.layers[0]
        path, half = f"/v2/app/blobs/{digest}", len(data) // 2

        def get(proxy, *words):
            out = place / "out"
            out.unlink(missing_ok=True)
            done = curl(*words, "-o", out, f"http://127.0.0.1:{proxy.port}{path}")
            return done.returncode, out.read_bytes() if out.exists() else b""

        with fault_proxy(registry.port, [fault("cut", half, nth=1), fault("flip", 7, nth=3), fault("cut", None, nth=5)]) as proxy:
            check(get(proxy) == (18, data[:half]), "no cut in the middle")
            check(get(proxy, "-r", f"{half}-") == (0, data[half:]), "no rest")
            check(asked_again(proxy.log) == [], "nothing was asked for again")
            code, flipped = get(proxy)
            check(code == 0 and flipped[7] == data[7] ^ 1 and flipped[:7] + flipped[8:] == data[:7] + data[8:], "no flip")
            check(asked_again(proxy.log) == [(digest, 0, half, 3), (digest, half, len(data), 3)], str(asked_again(proxy.log)))
            code = curl("--head", f"http://127.0.0.1:{proxy.port}{path}", f"http://127.0.0.1:{proxy.port}{path}").returncode
            check(code == 0 and proxy.log[-1].connection == proxy.log[-2].connection, "no second request on a connection")
            check(curl("-r", "5-5", f"http://127.0.0.1:{proxy.port}{path}").returncode == 0, "no byte")
            check(get(proxy)[0] == 52, "no cut before the head")
        with fault_proxy(registry.port, [fault("reset", 1000000, times=1), fault("stall", 5)]) as proxy:
            code, data_read = get(proxy)
            check(code == 56 and len(data_read) == proxy.log[0].sent == 1000000, f"no reset: {code} {len(data_read)}, {proxy.log}")
            check(get(proxy, "--max-time", "1")[0] == 28, "no stall")
        with fault_proxy(registry.port, piece=1) as proxy:
            check(get(proxy, "-r", "0-9999") == (0, data[:10000]), "in pieces")
        with fault_proxy(registry.port, rate=100e6 / 8, latency=0.05) as proxy:
            began = time.monotonic()
            check(get(proxy) == (0, data), "slowly")
            took, expected = time.monotonic() - began, 0.1 + len(data) * 8 / 100e6
            check(expected * 0.95 < took < expected * 4, f"took {took:.2f} s, not {expected:.2f}")
        with fault_proxy(registry.port, at_random=random_faults(1 << 20, 4 << 20, seed=5, actions=("cut", "reset"))) as proxy:
            have, tries = b"", 0
            while len(have) < len(data):
                have += get(proxy, "-r", f"{len(have)}-")[1]
                tries += 1
            check(have == data and 6 < tries < 30 and not asked_again(proxy.log), f"{tries} tries, {asked_again(proxy.log)}")
    ca = authority(place / "ca")
    with scripted_registry(tls=ca.issue()) as registry, fault_proxy(registry.port, [fault("cut", 4000000, match="TLS")]) as proxy:
        registry.serve(BIG, "app", "1")
        done = curl("--cacert", ca.certificate, "-o", "/dev/null", f"https://localhost:{proxy.port}{path}")
        check(done.returncode != 0 and proxy.log[0].sent == 4000000, f"TLS is not cut: {proxy.log}")


def fault_proxy_as_command(place):
    with scripted_registry() as registry:
        registry.serve(BIG, "app", "1")
        command = subprocess.Popen([sys.executable, HERE / "fault_proxy.py", "--listen", "0", "--to", str(registry.port), "--cut",
                                    "1M-8M", "--seed", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            port = int(command.stdout.readline())
            code = curl("-o", "/dev/null", f"http://127.0.0.1:{port}/v2/app/blobs/{BIG.layer_digests[0]}").returncode
            entry = json.loads(command.stdout.readline())
            check(code == 18 and 1 << 20 <= entry["sent"] <= 8 << 20, f"{code} {entry}")
        finally:
            command.terminate()
            command.communicate()


def scripted(place):
    again = [expect("GET", "/v2/", challenge('Basic realm="r"')), expect("GET", "/v2/", answer(200, b"{}"), {"Authorization": "^Basic "})]
    with scripted_registry(again, ordered=True) as registry:
        check(curl(f"{registry.url}/v2/", "-u", "a:b", "--anyauth").stdout.endswith("{}"), "no answer to the second")
        check(registry.verify() == [], str(registry.verify()))
        check("599" in curl("-i", f"{registry.url}/what").stdout and registry.verify() == ["came unexpected: GET /what"], "no 599")
    with scripted_registry([expect("GET", "/never", answer())]) as registry:
        check(registry.verify() == ["expected and did not come (0 of 1): GET /never"], str(registry.verify()))
    index = made_index([SMALL, made_image([CHANGES], platform=("linux", "arm64"))])
    ca = authority(place / "ca")
    with scripted_registry(tls=ca.issue()) as registry:
        registry.serve(index, "app", "1")
        check(pulled(registry.host, "app:1", place, "--src-cert-dir", ca.folder, tls=True)[0], "no pull by an index")
        check(pulled(f"localhost:{registry.port}", "app:1", place, "--all", "--src-cert-dir", ca.folder, tls=True)[0], "no pull of all")
    body = b"x" * 100000
    kinds = {  # an answer, and what curl makes of it
        "chunked": (answer(200, body, chunked=True), 0), "http10": (answer(200, body, http="HTTP/1.0", length=None), 0),
        "early": (answer(200, body, first=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), 0),
        "headers": (answer(200, body, [(f"X-{n}", "y" * 1000) for n in range(20)]), 0), "until-close": (answer(200, body, length=None), 0),
        "cut": (answer(200, body, cut=5000), 18), "reset": (answer(200, body, reset=5000), 56), "closed": (answer(200, body, then="close"), 0),
        "stall": (answer(200, body, stall=(5000, 60)), 28), "raw": (answer(raw=b"nonsense\r\n\r\n"), 1), "to": (redirect("/v2/chunked"), 0),
        "piecewise": (answer(200, (b"ab" for _ in range(9)), length=18), 0),
    }
    with scripted_registry([expect("GET", f"/v2/{name}", reply) for name, (reply, _) in kinds.items() if name != "chunked"] +
                           [expect("GET", "/v2/chunked", kinds["chunked"][0], times=2)]) as registry:
        for name, (_, code) in kinds.items():
            done = curl("-L", "--max-time", "1", "-o", "/dev/null", f"{registry.url}/v2/{name}")
            check(done.returncode == code, f"{name}: curl ends with {done.returncode}, not {code}")
        check(registry.verify() == [], str(registry.verify()))


def proxy(place):
    ca = authority(place / "ca")
    with forward_proxy(login="p:q") as forward, scripted_registry(tls=ca.issue()) as secure, scripted_registry() as plain:
        for registry in (secure, plain):
            registry.content["/v2/"] = answer(200, b"{}")
            words = ("--cacert", ca.certificate, "-x", f"http://{forward.host}", f"{registry.url}/v2/")
            check(curl("-U", "p:q", *words).stdout == "{}", f"no answer through the proxy from {registry.url}")
            check(registry.seen()[0].get("Proxy-Authorization") is None, "the registry sees the proxy's password")
            check(curl("-U", "p:r", "-f", *words).returncode != 0, "a wrong password")
        check([kind for kind, _, _ in forward.seen] == ["CONNECT", "CONNECT", "GET", "GET"], str(forward.seen))


CASES = {function.__name__: function for function in
         (debian_plain, debian_tls_and_users, tokens, fault_proxy_as_library, fault_proxy_as_command, scripted, proxy)}


def main():
    need_programs("curl", "skopeo", "openssl")
    for key in [k for k in os.environ if k.lower().endswith("_proxy")]:
        del os.environ[key]
    failed = 0
    for name, function in CASES.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="overmount-selftest.") as place:
            try:
                function(pathlib.Path(place))
                result = "passed"
            except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as problem:
                result, failed = f"FAILED: {type(problem).__name__} {problem}", failed + 1
        print(f"{name}: {result} ({time.monotonic() - began:.1f} s)", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
