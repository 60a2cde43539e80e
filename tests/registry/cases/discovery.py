"""Lists of tags."""
import json

from cases.mirrors import toml
from trial import ALWAYS, MALFORMED, NOT_THERE, answer, basic, bearer, case, each, queries

LIST = "/v2/app/tags/list"


def page(tags, link=None):
    return answer(200, json.dumps({"name": "app", "tags": tags}).encode(), {"Link": link} if link else {}, "application/json")


@case("tags are listed")
def tags(t):
    server = t.registry([]).expect("GET", LIST, page(["1", "2.0", "latest"]))
    t.check(sorted(t.tags(f"{server.host}/app")) == ["1", "2.0", "latest"], "other tags")


@each("a Link to the next page may be relative or absolute", {
    "relative": "</v2/app/tags/list?last=b&n=2>; rel=\"next\"", "absolute": "<{url}/v2/app/tags/list?last=b&n=2>; rel=\"next\"",
    "query": "<?last=b&n=2>; rel=next", "other_relations": "</x>; rel=\"prev\", </v2/app/tags/list?last=b&n=2>; title=\"a, b\"; rel=\"next\"",
})
def tags_pages(t, link):
    server = t.registry()
    server.expect("GET", LIST, lambda one: page(["c"]) if queries(one).get("last") == ["b"] else
                  page(["a", "b"], link.format(url=server.url)), times=2)
    t.check(sorted(t.tags(f"{server.host}/app")) == ["a", "b", "c"], "other tags")


@case("links in a circle are an error")
def tags_circle(t):
    server = t.registry().expect("GET", LIST, page(["a"], f"<{LIST}?last=a>; rel=next"), times=ALWAYS)
    t.failed(t.om("image", "tags", f"docker://{server.host}/app"), MALFORMED)
    t.check(len(server.requests) <= 4, f"{len(server.requests)} requests")


@case("a list without an end is an error")
def tags_endless(t):
    server = t.registry()
    server.expect("GET", LIST, lambda one: page([f"x{n}" for n in range(100)], f"<{LIST}?last={len(server.requests)}>; rel=next"), times=ALWAYS)
    t.failed(t.om("image", "tags", f"docker://{server.host}/app", timeout=120), f"{MALFORMED}|exceeds the limits")


@case("`null` for a list is an empty one (Nexus)")
def tags_null(t):
    server = t.registry().expect("GET", LIST, page(None))
    t.check(t.tags(f"{server.host}/app") == [], "tags of null")


@case("n is at most 1,000 (ECR)")
def tags_page_size(t):
    server = t.registry().expect("GET", LIST, page(["a"]))
    t.tags(f"{server.host}/app")
    t.check(all(int(n) <= 1000 for one in server.seen(path=LIST + ".*") for n in queries(one).get("n", [])), f"{server.requests}")


@case("tags that are none are an error")
def tags_invalid(t):
    server = t.registry().expect("GET", LIST, page(["fine", "../etc", "\x1b[31mred"]), times=ALWAYS)
    done = t.om("image", "tags", f"docker://{server.host}/app")
    t.failed(done, MALFORMED)
    t.check("\x1b" not in done.out + done.err, "control characters are printed")


@case("credentials do not follow a Link to another host")
def tags_link_elsewhere(t):
    other, server = t.registry(), t.registry()
    login, header = t.login()
    other.expect("GET", LIST, page(["stolen"]), times=ALWAYS)
    basic(server, header, "/v2/nothing")
    server.expect("GET", LIST, lambda one: page(["a"], f"<{other.url}{LIST}>; rel=next") if one.get("authorization") == header else
                  answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'}), times=ALWAYS)
    t.om("image", "tags", "--creds", login, f"docker://{server.host}/app")
    t.check(not [one for one in other.requests if one.get("authorization")], "the other host got credentials")


@case("a further page is asked of the host that has the first, with no other host's credentials")
def tags_page_of_mirror(t):
    origin, mirror = t.registry(), t.registry()
    login, header = t.login()
    t.registries_conf(toml(origin.host, mirror.host))
    mirror.expect("GET", LIST, lambda one: answer(401, b"", {"WWW-Authenticate": 'Basic realm="r"'}) if queries(one).get("last") else
                  page(["a"], f"<{LIST}?last=a>; rel=next"), times=ALWAYS)
    origin.expect("GET", LIST, page(["a"]), times=ALWAYS)
    t.om("image", "tags", "--creds", login, f"docker://{origin.host}/app")
    t.check(not [one for one in mirror.requests if one.get("authorization")], "the mirror got the origin's credentials")


@case("a page that fails once is asked for again")
def tags_page_again(t):
    server, failed = t.registry(), []

    def one_page(one):
        if not queries(one).get("last"):
            return page(["a"], f"<{LIST}?last=a>; rel=next")
        failed.append(one)
        return answer(503) if len(failed) == 1 else page(["b"])

    server.expect("GET", LIST, one_page, times=3)
    t.check(sorted(t.tags(f"{server.host}/app")) == ["a", "b"], "other tags")


@case("tags behind a token")
def tags_token(t):
    server = bearer(t.registry(), t.secret("token-for-tags"), ['Bearer realm="/token",service="s",scope="repository:app:pull"'])
    server.content[LIST] = page(["a"])
    t.check(t.tags(f"{server.host}/app") == ["a"], "other tags")


@each("tags of what is not there: not there, or not yours", {str(n): n for n in (401, 403, 404)})
def tags_missing(t, status):
    server = t.registry().expect("GET", LIST, answer(status, b"{}"), times=ALWAYS)
    server.content["/v2/"] = answer(200, b"{}")
    t.failed(t.om("image", "tags", f"docker://{server.host}/app"), NOT_THERE)
