"use strict";
// Replaces the part of the page that changes, and filters it. Without it the page reloads itself.
(() => {
  const live = document.getElementById("live");
  const lost = document.getElementById("lost");
  const line = document.getElementById("filter-line");
  const filter = document.getElementById("filter");
  if (!live) return;
  let shown = "";

  const sift = () => {
    const words = filter ? filter.value.trim().toLowerCase() : "";
    for (const item of live.querySelectorAll("li")) {
      const link = item.querySelector("a");
      item.hidden = !(item.textContent + (link ? link.href : "")).toLowerCase().includes(words);
    }
    for (const section of live.querySelectorAll("section")) {
      section.hidden = !section.querySelector("li:not([hidden])");
    }
  };

  const show = (text) => {
    if (text === shown) return;
    // What somebody marks to copy it stays.
    const marked = document.getSelection();
    if (shown && marked && !marked.isCollapsed && live.contains(marked.anchorNode)) return;
    const focus = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    shown = text;
    // From this server, which has escaped all that machines say; the policy forbids scripts in it.
    live.innerHTML = text;
    sift();
    if (focus) for (const link of live.querySelectorAll("a")) {
      if (link.getAttribute("href") === focus) link.focus({ preventScroll: true });
    }
  };

  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(live.dataset.from, { redirect: "manual", signal: AbortSignal.timeout(15000) });
      if (answer.type === "opaqueredirect") return location.reload();
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.text());
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  };

  const turn = async () => {
    await look();
    setTimeout(turn, 3000);
  };

  if (line && live.querySelectorAll("li").length > 8) {
    line.hidden = false;
    filter.addEventListener("input", sift);
  }
  document.addEventListener("visibilitychange", look);
  setTimeout(turn, 3000);
})();
