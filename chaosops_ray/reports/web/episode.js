// The page of one episode, or of two side by side: fetches the films, draws them, and keeps the moment and the role in
// the address, so that a link leads to them. The truth is not kept there: a page opens without it.

import { compare, draw, SPECTATOR } from "./film.js";
import { fork } from "./fork.js";

const place = document.getElementById("film");

async function load(address) {
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? found.error ?? "the film cannot be loaded");
  return found;
}

function fromAddress() {
  const [moment, role] = location.hash.slice(1).split("/");
  try {
    return { moment: Number(moment) || 0, role: role ? decodeURIComponent(role) : SPECTATOR };
  } catch {
    return { moment: 0, role: SPECTATOR };
  }
}

function onShow({ moment, role, truth }) {
  const as = role === SPECTATOR ? "" : `/${encodeURIComponent(role)}`;
  const address = moment || as ? `#${moment}${as}` : location.pathname + location.search;
  // Browsers refuse to do this too often; the last change is the one that counts.
  clearTimeout(onShow.waiting);
  onShow.waiting = setTimeout(() => history.replaceState(null, "", address), 200);
  for (const part of document.querySelectorAll("[data-with-truth]")) part.hidden = !truth || role !== SPECTATOR;
  what?.show(moment);
}

let what = null;

try {
  const films = await Promise.all([place.dataset.film, place.dataset.other].filter(Boolean).map(load));
  const options = { ...fromAddress(), page: true, onShow };
  const form = document.getElementById("fork");
  const { run, file, number } = place.dataset;
  if (form && films.length === 1) {
    what = fork(form, films[0], { run, file, number: Number(number) });
  }
  const drawn = films.length === 1 ? draw(place, films[0], options) : compare(place, films, options);
  addEventListener("hashchange", () => /^#\d+(\/|$)/.test(location.hash) && drawn.show(fromAddress()));
} catch (error) {
  const words = document.createElement("p");
  words.className = "notice";
  words.textContent = error.message;
  words.setAttribute("role", "alert");
  place.replaceChildren(words);
}
