"""The page of a lab in which machines work, in Chromium: what a person sees of it who only looks.

follow.py CHROMIUM URL TOKEN SHOT DONE FAILED: logs in, says so, and follows the page without a reload until the machine DONE
is done, after it was armed, and FAILED has failed. Prints what the page says of the failure; SHOT is a picture of it.
"""

import sys
import time

from playwright.sync_api import expect, sync_playwright

CHROMIUM, URL, TOKEN, SHOT, DONE, FAILED = sys.argv[1:7]
LIMIT = 500


def state(page, name):
    """The badge of a machine, and all that its row says; nothing while the page is being replaced."""
    texts = page.evaluate(
        """name => [...document.querySelectorAll("#live li")].filter(item => item.querySelector("a")?.textContent === name)
            .map(item => [item.querySelector(".badge")?.textContent ?? "", item.innerText])""",
        name,
    )
    return texts[0] if texts else ("", "")


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(120_000)
        page.goto(URL + "/login")
        page.get_by_label("Your token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("link", name=DONE)).to_be_visible(timeout=120_000)
        page.evaluate("window.isSame = true")
        print("looks", flush=True)
        seen, ends = {DONE: [], FAILED: []}, time.monotonic() + LIMIT
        while not (seen[DONE][-1:] == ["done"] and "armed" in seen[DONE] and seen[FAILED][-1:] == ["failed"]):
            assert time.monotonic() < ends, f"{seen}: {page.inner_text('main')}"
            for name, states in seen.items():
                now = state(page, name)[0]
                if now and states[-1:] != [now]:
                    states.append(now)
            page.wait_for_timeout(500)
        assert page.evaluate("window.isSame"), "the page was reloaded"
        print(seen, state(page, FAILED)[1])
        page.screenshot(path=SHOT, full_page=True)
        browser.close()


main()
