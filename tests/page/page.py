"""What a person sees and does on the page of `testboxctl serve`, in Chromium.

page.py CHROMIUM URL TOKEN LAB SHOTS: the lab's folder is changed as machines and other admins would. Every wait is for
something that must appear. Screenshots are kept in SHOTS.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
import ssl

from axe_playwright_python.sync_playwright import Axe
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from playwright.sync_api import expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

CHROMIUM, URL, TOKEN, LAB, SHOTS = sys.argv[1:6]
LAB, SHOTS = Path(LAB), Path(SHOTS)
CYCLED = LAB / "cycled"
ARMED = LAB / "t/pxelinux.cfg/0A2A0114"
UNSAFE = ssl._create_unverified_context()
expect.set_options(timeout=20_000)


def ask(path, method="GET", body=None, **headers):
    """What the server answers to a program: status, headers, text."""
    request = urllib.request.Request(URL + path, method=method, data=body)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=UNSAFE), Stay())
    try:
        answer = opener.open(request, timeout=30)
    except urllib.error.HTTPError as refused:
        answer = refused
    return answer.status, answer.headers, answer.read().decode()


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def bearer(token=TOKEN):
    return {"Authorization": f"Bearer {token}"}


class Visit:
    """A browser window, and the rules that hold for each page that is shown in it."""

    def __init__(self, browser, name, **options):
        self.name, self.number, self.wrong = name, 0, []
        self.context = browser.new_context(ignore_https_errors=True, **options)
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        # What the policy has refused comes as an error of the console.
        self.page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))

    def go(self, path):
        self.page.goto(URL + path)

    def click(self, role, name):
        self.page.get_by_role(role, name=name, exact=True).click()

    def log_in(self, token=TOKEN):
        self.page.get_by_label("Your token").fill(token)
        self.click("button", "Log in")

    def looks_good(self, name):
        """Accessible, no wider than the window, nothing refused; and a picture of it."""
        width = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0, f"{name}: {width} pixels too wide"
        found = Axe().run(self.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert not self.wrong, f"{name}: {self.wrong}"
        self.page.screenshot(path=SHOTS / f"{self.name}-{name}.png", full_page=True)


def a_visitor_sees_names_and_states_only(browser):
    visit = Visit(browser, "visitor")
    visit.go("/")
    expect(visit.page.get_by_role("heading", name="Machines")).to_be_visible()
    text = visit.page.inner_text("body")
    for part in ["tb20", "done", "tb21", "failed", "tb22", "running", "tb28", "idle"]:
        assert part in text, part
    for secret in ["sectors", "S3Z9NB0K", "alice", "41 %", "restore", "uid"]:
        assert secret not in visit.page.content(), secret
    assert visit.page.locator("main a").count() == 0
    visit.looks_good("machines")
    for path in ["/machines/10.42.1.20", "/images", "/machines/10.42.1.20/arm?action=restore"]:
        visit.go(path)
        expect(visit.page.get_by_label("Your token")).to_be_visible()
    visit.looks_good("login")
    visit.log_in("0" * 64)
    expect(visit.page.get_by_role("alert")).to_contain_text("knows no admin with this token")


def an_admin_follows_and_arms(browser):
    visit = Visit(browser, "admin")
    page = visit.page
    visit.go("/machines")
    visit.click("link", "Log in")
    visit.log_in()
    expect(page.get_by_role("heading", name="Needs somebody")).to_be_visible()
    failed = page.locator("li", has=page.get_by_role("link", name="tb21"))
    expect(failed).to_contain_text("sda: 3 sectors cannot be read (code 50)")
    expect(page.locator("li", has=page.get_by_role("link", name="10.42.1.24"))).to_contain_text("never came")
    expect(page.locator("li", has=page.get_by_role("link", name="10.42.1.23"))).to_contain_text("it has not come yet")
    working = page.locator("li", has=page.get_by_role("link", name="tb22"))
    expect(working).to_contain_text("41 %")
    visit.looks_good("machines")
    # It goes on, and the page with it: nobody reloads.
    page.evaluate("window.isSame = true")
    write(LAB / "b/10.42.1.22/status.json", (LAB / "later.json").read_bytes())
    expect(working).to_contain_text("87 %")
    assert page.evaluate("window.isSame"), "the page was reloaded"
    # An old picture is not taken for a new one.
    visit.context.set_offline(True)
    expect(page.get_by_text("what is shown is old")).to_be_visible()
    visit.context.set_offline(False)
    expect(page.get_by_text("what is shown is old")).to_be_hidden()
    visit.wrong.clear()
    page.get_by_label("Show").fill("tb21")
    expect(page.get_by_role("link", name="tb22")).to_be_hidden()
    page.get_by_label("Show").fill("")

    visit.click("link", "tb20")
    text = page.inner_text("main")
    for part in ["Samsung SSD 860", "S3Z9NB0K", "vfat", "ESP", "carol (uid 1000)", "degraded", "work", "12:34"]:
        assert part in text, part
    visit.looks_good("machine")
    visit.click("link", "restore…")
    expect(page.get_by_text("These disks are overwritten")).to_be_visible()
    visit.looks_good("question")
    visit.click("link", "Cancel")
    assert not ARMED.exists()
    visit.click("link", "restore…")
    visit.click("button", "Arm tb20 with restore")
    expect(page.get_by_role("status")).to_contain_text("armed with restore")
    expect(page.locator("#live")).to_contain_text("by alice (page, from 127.0.0.1); it has not come yet")
    assert "testbox.action=restore" in ARMED.read_text()
    visit.looks_good("armed")
    assert not CYCLED.exists()
    visit.click("link", "disarm…")
    visit.click("button", "Disarm tb20")
    expect(page.get_by_role("status")).to_contain_text("disarmed, was armed with restore")
    assert not ARMED.exists()
    # An older set, and at once.
    page.get_by_role("link", name="Restore set 6").click()
    expect(page.get_by_text("the images of set 6")).to_be_visible()
    page.get_by_label("Switch its power off and on").check()
    visit.click("button", "Arm tb20 with restore")
    expect(page.get_by_role("status")).to_contain_text("10.42.1.20: cycled")
    assert CYCLED.read_text() == "cycle tb20\n" and "testbox.set=" in ARMED.read_text()
    visit.click("link", "disarm…")
    visit.click("button", "Disarm tb20")
    expect(page.get_by_role("status")).to_contain_text("disarmed")

    # What the command refuses is said in its own words.
    visit.go("/machines/10.42.1.21/arm?action=restore")
    visit.click("button", "Arm tb21 with restore")
    expect(page.get_by_role("alert")).to_contain_text("exit code")
    expect(page.get_by_role("alert")).to_contain_text("10.42.1.21")
    visit.go("/images")
    expect(page.get_by_role("cell", name="degraded")).to_be_visible()
    visit.looks_good("images")

    hostile(visit)
    other_sites(visit)
    # Whoever is taken out of the file of tokens is logged out by that.
    tokens = (LAB / "tokens").read_bytes()
    (LAB / "tokens").write_bytes(b"")
    visit.go("/machines/10.42.1.20")
    expect(page.get_by_label("Your token")).to_be_visible()
    (LAB / "tokens").write_bytes(tokens)
    visit.log_in()
    expect(page.get_by_role("heading", name="tb20")).to_be_visible()
    visit.go("/machines")
    visit.click("button", "Log out")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    assert not visit.context.cookies(), "the cookie is gone"
    return visit


def hostile(visit):
    """Texts of a machine are texts."""
    visit.go("/machines/10.42.1.25")
    page = visit.page
    expect(page.locator("pre.log")).to_contain_text("<script>document.title='taken'</script>\\u{1b}[2J\\u{202e}")
    assert page.title() != "taken" and page.locator("main script, main img").count() == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page.content()), "control characters"
    visit.looks_good("hostile")


def other_sites(visit):
    """Whoever leads an admin's browser to this server gets nothing done."""
    page = visit.page
    cookie = visit.context.cookies()[0]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict"), cookie
    visit.go("/machines/10.42.1.20/arm?action=restore")
    key = page.locator("main input[name=key]").get_attribute("value")
    own = {"Cookie": f"{cookie['name']}={cookie['value']}", "Origin": URL, "Sec-Fetch-Site": "same-origin"}
    form = f"key={key}&action=restore".encode()
    for change, sent in [
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, form),
        ({"Origin": "null"}, form),
        ({"Sec-Fetch-Site": "same-site"}, form),
        ({}, b"action=restore"),
        ({}, b"action=restore&key=" + b"0" * 64),
    ]:
        status, _, text = ask("/machines/10.42.1.20/arm", "POST", sent, **{**own, **change})
        assert status == 403 and "Nothing was done" in text, (status, change, text)
    # A login is for the page: no order of the API comes by it.
    status, _, _ = ask("/api/v1/machines/10.42.1.20/arm", "POST", b'{"action":"restore"}', **own)
    assert status == 401 and not ARMED.exists()
    # The same from a real page of another origin, in this browser.
    visit.context.route(
        "https://evil.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{URL}/machines/10.42.1.20/arm'><input name=action value=restore>"
            f"<input name=key value={key}></form><script>document.forms[0].submit()</script>",
        ),
    )
    page.goto("https://evil.example/")
    expect(page.get_by_text("Only forms of this page are taken")).to_be_visible()
    assert not ARMED.exists()
    visit.wrong.clear()


def by_keyboard_in_the_dark_on_a_phone(browser):
    visit = Visit(browser, "phone", viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
    page = visit.page

    def tab_to(name):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == name:
                with page.expect_navigation():
                    page.keyboard.press("Enter")
                return
        raise AssertionError(f"Tab does not reach {name}")

    visit.go("/machines")
    tab_to("Log in")
    expect(page.get_by_label("Your token")).to_be_focused()
    page.keyboard.type(TOKEN)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Needs somebody")).to_be_visible()
    visit.looks_good("machines")
    tab_to("tb20")
    expect(page.get_by_role("heading", name="tb20")).to_be_visible()
    visit.looks_good("machine")
    tab_to("verify…")
    tab_to("Arm tb20 with verify")
    expect(page.get_by_role("status")).to_contain_text("armed with verify")
    tab_to("disarm…")
    tab_to("Disarm tb20")
    expect(page.get_by_role("status")).to_contain_text("disarmed")
    tab_to("Images")
    expect(page.get_by_role("heading", name="Images")).to_be_visible()
    visit.looks_good("images")


def without_scripts(browser):
    visit = Visit(browser, "plain", java_script_enabled=False, color_scheme="dark")
    visit.go("/machines/10.42.1.20")
    visit.log_in()
    expect(visit.page.get_by_role("heading", name="tb20")).to_be_visible()
    visit.click("link", "disarm…") if ARMED.exists() else visit.click("link", "rescue…")
    visit.click("link", "Cancel")
    visit.page.screenshot(path=SHOTS / "plain-machine.png", full_page=True)


def every_answer_is_guarded():
    own = ["/machines", "/login", "/page.css", "/page.js", "/icon.svg", "/metrics", "/api/v1/machines", "/openapi.json"]
    sizes = 0
    for path in own:
        status, headers, text = ask(path)
        assert status == 200, (path, status)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Connection"] == "close"
        sizes += len(text) if path != "/openapi.json" else 0
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), f"{path} needs the network"
    assert sizes < 200_000, sizes
    # The store's own welcome stays what programs ask for.
    status, headers, text = ask("/")
    assert status == 200 and json.loads(text)["server"] == "testbox store"


def the_api_is_as_described():
    description = json.loads(ask("/openapi.json")[2])
    validate(description)
    schemas = description["components"]["schemas"]

    def check(operation, status, headers, text):
        content = operation["responses"][str(status)]["content"]
        kind = headers.get_content_type()
        assert kind in content, (operation["operationId"], kind)
        if kind == "application/json":
            schema = {**content[kind]["schema"], "components": {"schemas": schemas}}
            Draft202012Validator(schema).validate(json.loads(text))
        return text

    def call(path, method, operation, body=None, **headers):
        path = path.replace("{name}", "tb20")
        status, answered, text = ask(path, method.upper(), body, **headers)
        return status, check(operation, status, answered, text)

    answers = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            body = b'{"action":"restore"}' if path.endswith("/arm") else b"" if method == "post" else None
            status, _ = call(path, method, operation, body)
            assert status == (200 if {} in operation["security"] else 401), (path, status)
            status, text = call(path, method, operation, body, **bearer())
            assert status == 200, (path, status, text)
            answers[operation["operationId"]] = text
            if "{name}" in path:
                status, _, text = ask(path.replace("{name}", "no-such"), method.upper(), body, **bearer())
                assert status == 404, (path, status, text)
                check(operation, status, _, text)
    machines = json.loads(answers["machines"])
    states = {machine["ip"]: machine["state"] for machine in machines}
    assert states["10.42.1.21"] == "failed" and states["10.42.1.24"] == "expired", states
    assert {machine["ip"]: machine["name"] for machine in machines}["10.42.1.28"] == "tb28"
    assert json.loads(ask("/api/v1/machines")[2])[0].keys() == {"ip", "name", "state"}
    assert "armed with restore" in json.loads(answers["arm"])["out"][0]
    # It was armed and disarmed, in this order.
    assert "disarmed" in json.loads(answers["disarm"])["out"][0] and not ARMED.exists()
    for body in [b"{", b'{"action":"jump"}', b'{"action":"backup","more":1}', b'{"action":"verify","expires":"1h --force"}']:
        status, _, text = ask("/api/v1/machines/tb20/arm", "POST", body, **bearer())
        assert status == 400, (body, status, text)
    everything = " ".join(answers.values())
    assert TOKEN not in everything and "testbox.token" not in everything


def metrics_are_read_by_prometheus():
    def read(**headers):
        status, _, text = ask("/metrics", **headers)
        assert status == 200
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(s.name, *sorted(s.labels.items())): s.value for s in samples}

    few = read()
    assert few[("testbox_machines", ("state", "failed"))] == 2, few
    assert {name for name, *_ in few} == {"testbox_machines"}, few
    all_of_it = read(**bearer())
    tb20 = (("machine", "10.42.1.20"), ("name", "tb20"))
    assert all_of_it[("testbox_last_good_backup_timestamp_seconds", *tb20)] > 1.7e9
    assert all_of_it[("testbox_sets", *tb20)] == 2
    assert all_of_it[("testbox_sets_bytes", *tb20)] == 96 << 10
    assert all_of_it[("testbox_share_free_bytes",)] > 0
    assert all_of_it[("testbox_store_jobs_at_work",)] == 0


def who_guesses_tokens_waits():
    for _ in range(12):
        status, _, _ = ask("/api/v1/machines", **bearer("1" * 64))
    assert status == 429, status
    # Who is not asked for a token is served all the same.
    assert ask("/api/v1/machines")[0] == 200


def write(path, content):
    """As a machine does: whole or not at all."""
    part = path.with_suffix(".new")
    part.write_bytes(content)
    part.rename(path)


def main():
    SHOTS.mkdir(parents=True, exist_ok=True)
    every_answer_is_guarded()
    the_api_is_as_described()
    metrics_are_read_by_prometheus()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for part in [a_visitor_sees_names_and_states_only, an_admin_follows_and_arms, by_keyboard_in_the_dark_on_a_phone, without_scripts]:
            part(browser)
            print(f"page: {part.__name__}")
        browser.close()
    who_guesses_tokens_waits()


main()
