"""Proxies of HTTP."""
from forward_proxy import forward_proxy
from scripted_registry import redirect
from trial import IMAGE, answer, case, each


def behind(t, tls, variable=None, login=None, **more):
    """A public registry, and a proxy that the environment names."""
    name = f"{t.name.replace('_', '-')}.test"
    server = t.public(name, tls=tls, **more).serve(IMAGE, "app", "1")
    proxy = t.enter(forward_proxy(address=t.world.address(f"proxy.{name}"), login=login))
    user = f"proxy-user:{t.secret('proxy-password')}@" if login else ""
    t.environment[variable or ("https_proxy" if tls else "http_proxy")] = f"http://{user}{proxy.host}"
    return server, proxy


@each("the proxy for https, by CONNECT", {"upper": "HTTPS_PROXY", "lower": "https_proxy"})
def proxy_https(t, variable):
    server, proxy = behind(t, True, variable)
    t.pulls(f"{server.host}/app:1")
    t.check({kind for kind, _, _ in proxy.seen} == {"CONNECT"} and {x for _, x, _ in proxy.seen} == {f"{server.host}:443"}, str(proxy.seen))


@each("the proxy for http, in absolute form", {"upper": "HTTP_PROXY", "lower": "http_proxy"})
def proxy_http(t, variable):
    server, proxy = behind(t, False, variable, port=5000)
    t.pulls(f"{server.host}/app:1", "--tls-verify=false")
    t.check([x for _, x, _ in proxy.seen if x.startswith(f"http://{server.host}/v2/app/manifests/1")], str(proxy.seen))


@each("Proxy-Authorization goes to the proxy alone", {"https": True, "http": False})
def proxy_credentials(t, tls):
    server, proxy = behind(t, tls, login="proxy-user:proxy-password", port=None if tls else 5000)
    t.pulls(f"{server.host}/app:1", *([] if tls else ["--tls-verify=false"]))
    t.check(proxy.seen and not [one for one in server.requests if one.get("proxy-authorization")], "the registry got it")


@case("a proxy that refuses the password is an error without it")
def proxy_refuses(t):
    server, proxy = behind(t, True, login="proxy-user:proxy-password")
    proxy.login = "other:other"
    t.fails(f"{server.host}/app:1", words="proxy|407")
    t.check(not server.requests, "it went around the proxy")


@case("a proxy that is not there is an error")
def proxy_gone(t):
    server, proxy = behind(t, True)
    t.environment["https_proxy"] = "http://8.8.200.200:1"
    t.fails(f"{server.host}/app:1", words=".", timeout=120)
    t.check(not server.connections and not proxy.seen, "it went around the proxy")


@each("NO_PROXY: networks, suffixes, ports and *", {
    "network": "8.8.0.0/16", "suffix": ".test", "domain": "test", "host": "{host}", "port": "{host}:443", "star": "*", "list": "a.example, .test",
    "network_of_other": None, "other_port": None, "other_domain": None,
})
def no_proxy(t, value):
    server, proxy = behind(t, True)
    through = {"no_proxy_network_of_other": "9.9.0.0/16,10.0.0.0/8", "no_proxy_other_port": f"{server.host}:8443",
               "no_proxy_other_domain": "est"}.get(t.name)
    t.environment["NO_PROXY"] = through or value.format(host=server.host)
    reference = f"{server.address}/app:1" if "network" in t.name else f"{server.host}/app:1"
    t.pulls(reference, *(["--tls-verify=false"] if "network" in t.name else []))
    t.check(bool(proxy.seen) == bool(through), f"NO_PROXY={t.environment['NO_PROXY']}: the proxy was asked for {proxy.seen}")


@case("loopback is asked directly")
def proxy_not_for_loopback(t):
    proxy = t.enter(forward_proxy(address=t.world.address("proxy.loopback.test")))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        t.environment[name] = f"http://{proxy.host}"
    t.pulls(f"{t.app().host}/app:1")
    t.check(not proxy.seen, str(proxy.seen))


@case("token servers and other hosts are reached through the proxy, too")
def proxy_for_redirects(t):
    server, proxy = behind(t, True)
    cdn = t.public("cdn.proxied.test")
    for digest, data in IMAGE.blobs.items():
        cdn.content[f"/blobs/{digest}"] = answer(200, data)
    server.expect("GET", "/v2/app/blobs/.*", lambda one: redirect(f"{cdn.url}/blobs/{one.path.rpartition('/')[2]}"), times=(1, 99))
    t.pulls(f"{server.host}/app:1")
    t.check({x for _, x, _ in proxy.seen} == {f"{server.host}:443", f"{cdn.host}:443"}, str(proxy.seen))
