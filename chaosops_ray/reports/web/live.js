// Keeps a page up to date: when the server says that something changed, fetches the page again and takes over the parts
// that are marked with data-live. Tells others with the event "chaosops:changed" on the document.

import { refreshing } from "./refreshing.js";

const status = document.querySelector("[data-events]");
const AGAIN_AFTER = 2000; // milliseconds
const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function age(seconds) {
  const [length, unit] = units.find(([length]) => seconds >= length) ?? [1, "s"];
  return `${Math.floor(seconds / length)} ${unit} ago`;
}

let loaded = performance.now();

function tick() {
  const since = (performance.now() - loaded) / 1000;
  for (const shown of document.querySelectorAll("[data-quiet]")) {
    const text = age(Number(shown.dataset.quiet) + since);
    shown.textContent = "atLeast" in shown.dataset ? `more than ${text}` : text;
  }
}

function say(text, isOn) {
  status.textContent = text;
  status.classList.toggle("on", isOn);
}

const refresh = refreshing(async () => {
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // the server is away for a moment; the stream says when it is back
  }
});

function take(page) {
  const focused = document.activeElement?.getAttribute("href");
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (fresh) part.replaceChildren(...fresh.childNodes);
  }
  if (focused && !document.activeElement?.getAttribute("href")) {
    document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }
  loaded = performance.now();
  tick();
}

function listen() {
  const events = new EventSource(status.dataset.events);
  events.onopen = () => {
    say("live", true);
    changed(); // something may have come between the page and the stream
  };
  events.addEventListener("changed", changed);
  events.onerror = () => {
    say("not connected", false);
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_AFTER);
  };
}

function changed() {
  document.dispatchEvent(new CustomEvent("chaosops:changed"));
  refresh();
}

if (status) {
  listen();
  tick();
  setInterval(tick, 1000);
}
