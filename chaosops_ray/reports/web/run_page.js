// The page of a run in the control room: fetches its curves, draws them, and fetches what comes later.

import { Curves, events } from "./curves.js";
import { refreshing } from "./refreshing.js";
import uPlot from "./uplot/uPlot.js";

const element = document.querySelector("[data-curves]");
const marks = document.querySelector("[data-marks]");
let curves = null;

async function fetched() {
  const url = new URL(element.dataset.curves, location.href);
  if (curves) {
    url.searchParams.set("after", curves.document.updates.length);
    url.searchParams.set("times", curves.document.times);
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

const refresh = refreshing(async () => {
  try {
    take(await fetched());
  } catch (error) {
    if (!curves) element.textContent = `The curves cannot be shown: ${error.message}`;
  }
});

function take(found) {
  if (curves) curves.add(found);
  else if (found.updates.length) curves = new Curves(element, found, uPlot);
  else element.textContent = "No update has been made yet; the curves begin with the first.";
  if (found.marks.length) marks.replaceChildren(...events(document, found));
}

document.addEventListener("chaosops:changed", refresh);
await refresh();
