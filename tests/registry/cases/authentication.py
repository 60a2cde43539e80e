"""Challenges, token servers, and what becomes of 401, 403 and 404."""
import itertools
import json
import urllib.parse

from trial import (ALWAYS, BLOBS, ELSEWHERE, IMAGE, MALFORMED, MANIFESTS, MANY, NOT_THERE, REFUSED, TAG, UNAVAILABLE, answer, basic,
                   bearer, blob, case, challenge, each, endless, queries)

SCOPE = "repository:app:pull"


def token_of(t):
    return t.secret(f"token-of-{t.name}")


def token_requests(server):
    return server.seen("GET|POST", "/token.*")


def given(token, **more):
    return answer(200, json.dumps({"token": token, **more}).encode(), media_type="application/json")


@case("/v2/ is optional: it may be 404")
def ping_missing(t):
    server = t.app().expect("GET", "/v2/", answer(404), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@case("some registries challenge only at /v2/: ping when a 401 carries no challenge")
def challenge_at_ping(t):
    server, token = t.app(), token_of(t)
    server.expect("GET", "/v2/", challenge(f'Bearer realm="{server.url}/token",service="s"'), times=(1, 9))
    t.pulls(f"{bearer(server, token, [], MANIFESTS + '|' + BLOBS).host}/app:1")


@case("some registries challenge only at the repository")
def challenge_at_repository(t):
    server, token = t.app(), token_of(t)
    server.expect("GET", "/v2/", answer(200, b"{}"), times=ALWAYS)
    bearer(server, token, [f'Bearer realm="{server.url}/token",service="s",scope="{SCOPE}"'])
    t.pulls(f"{server.host}/app:1")


BEARER = 'Bearer realm="/token",service="s",scope="repository:app:pull"'


@each("WWW-Authenticate comes in every shape", {
    "several_headers": ['Basic realm="r"', BEARER],
    "one_header": ['Basic realm="r", ' + BEARER],
    "one_header_reversed": [BEARER + ', Basic realm="r", charset="UTF-8"'],
    "quoted_comma": ['Bearer realm="/token",service="a, Basic realm=b",scope="repository:app:pull,push"'],
    "quoted_quote": ['Bearer realm="/token",service="say \\"s\\"",scope="repository:app:pull"'],
    "any_case": ['bEARER REALM="/token",Service="s",SCOPE="repository:app:pull"'],
    "unquoted": ["Bearer realm=/token,service=s,scope=repository:app:pull"],
    "spaces": ['Bearer   realm = "/token" , service="s" ,, scope="repository:app:pull"'],
    "other_order": ['Bearer scope="repository:app:pull",service="s",realm="/token"'],
    "no_scope": ['Bearer realm="/token",service="s"'],
    "no_service": ['Bearer realm="/token",scope="repository:app:pull"'],
    "empty_scope": ['Bearer realm="/token",service="s",scope=""'],
    "unknown_first": ["Negotiate", 'Digest realm="x", nonce="y"', BEARER],
    "token68_first": ["NTLM TlRMTVNTUAACAAAA==, " + BEARER],
})
def challenge_shape(t, values):
    server = bearer(t.app(), token_of(t), values)
    t.pulls(f"{server.host}/app:1")
    asked = queries(token_requests(server)[0])
    t.check("pull" in asked.get("scope", [""])[0] and "app" in asked["scope"][0], f"scope: {asked}")
    t.check(("service" in asked) == ("service" in values[-1].lower()), f"service: {asked}")
    if "shape_quoted" in t.name:
        t.check(asked["service"] == ['say "s"' if "quote" == t.name[-5:] else "a, Basic realm=b"], f"service: {asked}")


@case("without credentials Bearer before Basic, in whatever order they come")
def bearer_before_basic(t):
    server = bearer(t.app(), token_of(t), ['Basic realm="r"', BEARER])
    t.pulls(f"{server.host}/app:1")


@case("what can be answered is chosen: Basic beside something unknown, with credentials")
def basic_beside_unknown(t):
    server = t.app()
    name, header = t.login()
    server.expect("GET", "/v2/app/.*", lambda one: None if one.get("authorization") == header else
                  challenge("Negotiate", 'Basic realm="r"'), times=ALWAYS)
    t.pulls(f"{server.host}/app:1", "--creds", name)


@case("Basic without credentials cannot be answered")
def basic_without_credentials(t):
    server = basic(t.app(), "Basic nobody has it")
    t.fails(f"{server.host}/app:1", words=f"{NOT_THERE}|{REFUSED}")
    t.check(len(server.seen(path=TAG)) <= 2, f"asked again and again: {server.requests}")


@case("a password with a colon, and one outside of ASCII, are sent as they are")
def password_of_any_characters(t):
    for password in ("a:b:c", "pässwörd", "x" * 300):
        server = t.app()
        name, header = t.login("alice", password)
        basic(server, header)
        t.pulls(f"{server.host}/app:1", "--creds", name)


@each("the realm may have a query of its own", {"field": "/token?account=of%2Brealm&x=", "plus": "/token?a=b+c"})
def realm_with_query(t, realm):
    server = bearer(t.app(), token_of(t), [f'Bearer realm="{realm}",service="s",scope="{SCOPE}"'])
    t.pulls(f"{server.host}/app:1")
    path = token_requests(server)[0].path
    t.check(path.startswith(realm + "&") and SCOPE in urllib.parse.unquote(path), f"asked: {path}")


@each("the realm may be relative", {"path": "/token", "host": None})
def realm_relative(t, realm):
    server = t.app()
    bearer(server, token_of(t), [f'Bearer realm="{realm or f"//{server.host}/token"}",service="s",scope="{SCOPE}"'])
    t.pulls(f"{server.host}/app:1")


@case("an http realm of an https registry is refused")
def realm_of_http(t):
    tokens, server = t.registry(), t.app(tls=True)
    name, _ = t.login()
    bearer(server, "t", [f'Bearer realm="{tokens.url}/token",service="s",scope="{SCOPE}"'])
    t.fails(f"{server.host}/app:1", "--creds", name, words=ELSEWHERE)
    t.check(not tokens.requests, "the credentials went out over http")


@each("a realm of any other scheme is refused", {"file": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/token", "nonsense": "http://[::/token"})
def realm_scheme(t, realm):
    server = bearer(t.app(), "t", [f'Bearer realm="{realm}",service="s",scope="{SCOPE}"'])
    t.fails(f"{server.host}/app:1", words=f"{ELSEWHERE}|{MALFORMED}")


@each("a public registry's realm at a private address is refused (go-containerregistry#2258)", {
    "loopback": "127.0.0.1", "ten": "10.1.2.4", "link_local": "169.254.169.254", "ipv6": "[fd00::1]",
})
def realm_private(t, address):
    server = t.public(f"{t.name.replace('_', '-')}.test").serve(IMAGE, "app", "1")
    inner = [t.registry(address=a, tls=True, names=(a,)) for a in {"127.0.0.1", "10.1.2.4"} if a == address]
    port = inner[0].port if inner else 443
    name, _ = t.login()
    bearer(server, "t", [f'Bearer realm="https://{address}:{port}/token",service="s",scope="{SCOPE}"'])
    t.fails(f"{server.host}/app:1", "--creds", name, words=ELSEWHERE)
    t.check(not [one for one in inner if one.connections], "it connected to the private address")


@case("an anonymous token: service, scope and client_id, no account, no credentials")
def token_anonymous(t):
    server = bearer(t.app(), token_of(t), [BEARER])
    t.pulls(f"{server.host}/app:1")
    one, = token_requests(server)
    asked = queries(one)
    t.check(asked["service"] == ["s"] and asked["scope"] == [SCOPE] and asked.get("client_id", [""])[0], f"asked: {asked}")
    t.check("account" not in asked and one.get("authorization") is None, f"asked: {asked}")


@case("a token with credentials: account and Basic")
def token_with_credentials(t):
    server = bearer(t.app(), token_of(t), [BEARER])
    name, header = t.login()
    t.pulls(f"{server.host}/app:1", "--creds", name)
    one, = token_requests(server)
    t.check(queries(one).get("account") == ["alice"] and one.get("authorization") == header, f"asked: {queries(one)}")
    t.check(not [r for r in server.seen(path="/v2/.*") if (r.get("authorization") or "").startswith("Basic")],
            "the password went to the registry, which had asked for a token")


def second_scope(t, scope):
    """A registry that wants another token for blobs; returns the query of the last token request."""
    server, tokens = t.app(), [token_of(t) + n for n in "12"]
    for token in tokens:
        t.secret(token)
    numbers = itertools.count()
    server.expect("GET", "/token", lambda one: given(tokens[min(next(numbers), 1)]), times=ALWAYS)
    server.expect("GET", "/v2/app/.*", lambda one: None if one.get("authorization") in
                  {f"Bearer {x}" for x in (tokens[1:] if "/blobs/" in one.path else tokens)} else
                  challenge(f'Bearer realm="/token",service="s",scope="{scope if "/blobs/" in one.path else SCOPE}",error="insufficient_scope"'),
                  times=ALWAYS)
    t.pulls(f"{server.host}/app:1")
    return queries(token_requests(server)[-1])


@case("scope is repeated, and the one demanded just now comes first")
def scope_demanded_first(t):
    asked = second_scope(t, "repository:base:pull")
    t.check(asked["scope"] == ["repository:base:pull", SCOPE], f"scopes: {asked['scope']}")


@case("actions of one repository are merged")
def scope_actions_merged(t):
    asked = second_scope(t, "repository:app:delete")
    name, actions = asked["scope"][0].rpartition(":")[::2]
    t.check(len(asked["scope"]) == 1 and name == "repository:app" and set(actions.split(",")) == {"pull", "delete"}, f"scopes: {asked['scope']}")


@case("several scopes in one challenge are asked for, each by itself")
def scopes_in_challenge(t):
    server = bearer(t.app(), token_of(t), [f'Bearer realm="/token",service="s",scope="{SCOPE} repository:base:pull"'])
    t.pulls(f"{server.host}/app:1")
    t.check(queries(token_requests(server)[0])["scope"] == [SCOPE, "repository:base:pull"], f"asked: {token_requests(server)}")


def identity(t):
    """A server of ACR's kind, its identity token, and the option that gives it to om."""
    server, refresh = t.app(), t.secret("identity-of-the-test/+=")
    bearer(server, token_of(t), [BEARER])
    return server, refresh, ("--authfile", t.file("identity.json", {"auths": {server.host: {"identitytoken": refresh}}}))


@case("an identity token is POSTed as refresh_token, with service and client_id (ACR)")
def identity_token(t):
    server, refresh, options = identity(t)
    server.expect("POST", "/token", answer(200, json.dumps({"access_token": token_of(t)}).encode()))
    t.pulls(f"{server.host}/app:1", *options)
    one, = token_requests(server)
    form = urllib.parse.parse_qs(one.body.decode())
    t.check(form["grant_type"] == ["refresh_token"] and form["refresh_token"] == [refresh] and form["service"] == ["s"], "another form")
    t.check(form.get("client_id", [""])[0] and form["scope"] == [SCOPE], f"client_id, scope: {form.get('client_id')} {form.get('scope')}")
    t.check(one.get("content-type") == "application/x-www-form-urlencoded", f"Content-Type: {one.get('content-type')}")


@each("an identity token that a server does not take by POST is tried by GET", {str(n): n for n in (400, 401, 404, 405)})
def identity_by_get(t, status):
    server, refresh, options = identity(t)
    server.expect("POST", "/token", answer(status, b"{}"), times=(1, 2))
    t.pulls(f"{server.host}/app:1", *options)
    t.check(token_requests(server)[-1].method == "GET", "no GET")
    t.check(not [one for one in server.requests if urllib.parse.quote(refresh, safe="") in one.path], "the secret is in a URL")


@each("the answer has `token` or `access_token`", {
    "token": lambda x: {"token": x}, "access_token": lambda x: {"access_token": x}, "both": lambda x: {"token": x, "access_token": x},
    "null_beside": lambda x: {"token": None, "access_token": x}, "empty_beside": lambda x: {"token": "", "access_token": x},
})
def token_member(t, made):
    token = token_of(t)
    server = bearer(t.app(), token, [BEARER], reply=answer(200, json.dumps(made(token)).encode()))
    t.pulls(f"{server.host}/app:1")


@each("expires_in missing, below 60 or nonsense counts as 60, and issued_at is not believed: one token for all", {
    "missing": {}, "one": {"expires_in": 1}, "zero": {"expires_in": 0}, "negative": {"expires_in": -5}, "text": {"expires_in": "soon"},
    "issued_long_ago": {"issued_at": "2001-01-01T00:00:00Z", "expires_in": 300}, "issued_tomorrow": {"issued_at": "2999-01-01T00:00:00Z"},
})
def token_life(t, members):
    token = token_of(t)
    server = bearer(t.app(), token, [BEARER], reply=given(token, **members))
    t.pulls(f"{server.host}/app:1")
    t.check(len(token_requests(server)) == 1, f"{len(token_requests(server))} tokens")


@each("a token with control characters is refused", {"line": "abc\r\nX-Injected: 1", "nul": "abc\0d", "delete": "abc\x7f"})
def token_with_control(t, token):
    server = bearer(t.app(), "other", [BEARER], reply=given(token))
    t.fails(f"{server.host}/app:1", words=MALFORMED)
    t.check(not [one for one in server.requests if one.get("x-injected") or "abc" in (one.get("authorization") or "")], "it was sent")


@each("what is no token is an error", {"empty": b"", "html": b"<html>", "no_member": b"{}", "number": b'{"token": 5}', "list": b"[]"})
def token_answer(t, body):
    server = bearer(t.app(), "t", [BEARER], reply=answer(200, body))
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|malformed JSON")


@case("a token answer of more than 1 MiB is refused")
def token_too_large(t):
    server = bearer(t.app(), "t", [BEARER], reply=lambda one: answer(200, endless(), chunked=True))
    t.fails(f"{server.host}/app:1", words=f"{MALFORMED}|exceeds the limits")
    t.check(all(one.sent < 32 << 20 for one in token_requests(server)), "it was read for long")


@case("one fetch for each realm, service and scopes: many layers, one token")
def token_fetched_once(t):
    server = bearer(t.app(MANY), token_of(t), [BEARER])
    t.pulls(f"{server.host}/app:1", image=MANY)
    t.check(len(token_requests(server)) == 1, f"{len(token_requests(server))} tokens for one pull")


@case("a 401 in the middle of work: one new token, for all who wait for it")
def token_expires(t):
    server, tokens, numbers = t.app(MANY), [token_of(t) + "1", token_of(t) + "2"], itertools.count()
    layers = {blob(MANY, n) for n in range(len(MANY.layers))}
    server.expect("GET", "/token", lambda one: server.sleep(0.5) or given(tokens[min(next(numbers), 1)]), times=ALWAYS)
    server.expect("GET", "/v2/app/.*", lambda one: None if one.get("authorization") == f"Bearer {tokens[one.path in layers]}" else
                  challenge(BEARER), times=ALWAYS)
    t.pulls(f"{server.host}/app:1", image=MANY)
    t.check(len(token_requests(server)) == 2, f"{len(token_requests(server))} tokens, and two are needed")


@case("a 401 after the new token is an error")
def token_refused_again(t):
    server = t.app()
    server.expect("GET", "/token", given(token_of(t)), times=ALWAYS)
    server.expect("GET", "/v2/app/blobs/.*", challenge(BEARER), times=ALWAYS)
    bearer(server, token_of(t), [BEARER])
    t.fails(f"{server.host}/app:1", words=f"{NOT_THERE}|{REFUSED}")
    t.check(len(token_requests(server)) <= 3, f"{len(token_requests(server))} tokens")


@each("401, 403 and 404 mean: not there, or not yours; asked once", {
    "401": answer(401, b"{}"), "403": answer(403, b'{"errors":[{"code":"DENIED","message":"no"}]}'),
    "404": answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'), "404_html": answer(404, b"<html>", media_type="text/html"),
})
def not_there(t, reply):
    server = t.app().expect("GET", TAG, reply, times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=NOT_THERE)
    t.check(len(server.seen(path=TAG)) <= 2, f"{len(server.seen(path=TAG))} times")


@each("a blob that is not there is an error", {str(n): n for n in (403, 404)})
def blob_not_there(t, status):
    server = t.app().expect("GET|HEAD", blob(IMAGE, 0), answer(status), times=ALWAYS)
    t.fails(f"{server.host}/app:1", words=NOT_THERE)
    t.check(len(server.seen(path=blob(IMAGE, 0))) <= 2, "asked again and again")


@each("credentials that the token server refuses are named as the reason", {"401": 401, "403": 403})
def login_refused(t, status):
    server = bearer(t.app(), "t", [BEARER], reply=answer(status, b'{"details":"incorrect username or password"}'))
    name, _ = t.login()
    t.fails(f"{server.host}/app:1", "--creds", name, words=f"{REFUSED}|{NOT_THERE}")
    t.check(len(token_requests(server)) <= 2, "the password was tried again and again, which locks accounts")


@case("a wrong password for Basic is tried once")
def basic_refused(t):
    server = basic(t.app(), "Basic another")
    name, _ = t.login()
    t.fails(f"{server.host}/app:1", "--creds", name, words=f"{REFUSED}|{NOT_THERE}")
    t.check(len([one for one in server.requests if one.get("authorization")]) <= 2, "the password was tried again and again")


@case("a token server that fails is an error that says so, after retries")
def token_server_fails(t):
    server = bearer(t.app(), "t", [BEARER], reply=answer(503))
    t.fails(f"{server.host}/app:1", words=f"{UNAVAILABLE}|{REFUSED}|{NOT_THERE}")
    t.check(2 <= len(token_requests(server)) < 9, f"{len(token_requests(server))} tries")


@case("a 401 with a long body does not disturb the next request")
def challenge_with_long_body(t):
    server, token = t.app(), token_of(t)
    server.expect("GET", "/token", given(token), times=ALWAYS)
    server.expect("GET", "/v2/app/.*", lambda one: None if one.get("authorization") == f"Bearer {token}" else
                  challenge(BEARER).with_(body=b"x" * 300000), times=ALWAYS)
    t.pulls(f"{server.host}/app:1")


@case("another registry gets no credentials of this one")
def credentials_of_another_host(t):
    server, other = t.app(), t.app()
    name, header = t.login()
    basic(server, header)
    options = ("--authfile", t.auths({server.host: name}))
    t.pulls(f"{server.host}/app:1", *options)
    t.pulls(f"{other.host}/app:1", *options)
    t.check(not [one for one in other.requests if one.get("authorization")], "it got them")


@case("Authorization is not sent before it is asked for")
def credentials_on_demand(t):
    server = t.app()
    t.pulls(f"{server.host}/app:1", "--creds", t.login()[0])
    t.check(not [one for one in server.requests if one.get("authorization")], "it was sent unasked")
