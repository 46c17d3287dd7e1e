// The page of a run's report: draws what the page holds, the curves at once and a film when it is chosen.

import { Curves, events } from "./curves.js";
import { compare, draw } from "./film.js";
import uPlot from "./uplot/uPlot.js";

const held = (element) => JSON.parse(element.textContent);

const curves = document.querySelector("[data-curves]");
if (curves) {
  const found = held(document.getElementById("curves"));
  new Curves(curves, found, uPlot);
  document.querySelector("[data-marks]").replaceChildren(...events(document, found));
}

const stage = document.querySelector("[data-stage]");
const buttons = [...document.querySelectorAll("[data-film]")];
let playing = null;

function choose(button) {
  const films = held(document.getElementById(button.dataset.film));
  playing?.end();
  playing = films.length === 1 ? draw(stage, films[0]) : compare(stage, films);
  for (const one of buttons) one.setAttribute("aria-pressed", one === button);
}

for (const button of buttons) button.addEventListener("click", () => choose(button));
if (buttons.length) choose(buttons[0]);
