// The page of a live play: takes the film as it comes, and shows it turn by turn, at the speed that is chosen.

import { draw } from "./film.js";
import { fork } from "./fork.js";

const place = document.querySelector("[data-events]");
const bar = place.querySelector(".performance-bar");
const controls = place.querySelector("[data-controls]");
const said = place.querySelector("[data-state]");
const failure = place.querySelector("[data-error]");
const pause = place.querySelector("[data-pause]");
const speed = place.querySelector("[data-speed]");

let film = null; // all that has come
let drawn = null;
let shown = 0; // turns that are shown
let isPaused = false;
let isComplete = false; // nothing comes any more
let timer = null;
let whatIf = null; // the form that forks it, once it can be forked

// The film as it was after so many turns: what came later is not told before it is shown.
function upTo(turns) {
  if (turns >= film.steps.length) return film;
  return {
    ...film,
    is_over: false,
    metrics: [],
    steps: film.steps.slice(0, turns),
    moments: film.moments.slice(0, turns + 1),
    charts: film.charts.map((chart) => ({
      ...chart,
      lines: chart.lines.map((line) => ({ ...line, values: line.values.slice(0, turns + 1) })),
    })),
  };
}

function show() {
  if (drawn) drawn.update(upTo(shown));
  else drawn = draw(place.querySelector("[data-film]"), upTo(shown), {
    page: true,
    onShow: ({ moment }) => whatIf?.show(moment),
  });
  const turns = `${shown} ${shown === 1 ? "turn" : "turns"}`;
  if (shown < film.steps.length) said.textContent = isPaused ? `Paused after ${turns}.` : `Playing: ${turns}.`;
  else if (!isComplete) said.textContent = `Playing: ${turns}. The next one is being taken.`;
  else said.textContent = film.is_over ? `The episode is over after ${turns}.` : `It ended after ${turns}.`;
  controls.hidden = isComplete && shown >= film.steps.length;
}

function next() {
  clearTimeout(timer);
  timer = null;
  if (isPaused || !film || shown >= film.steps.length) return;
  const perSecond = Number(speed.value);
  shown = perSecond === 0 ? film.steps.length : shown + 1;
  show();
  if (shown < film.steps.length) timer = setTimeout(next, 1000 / perSecond);
}

function came() {
  if (timer === null) timer = setTimeout(next, Number(speed.value) === 0 ? 0 : 1000 / Number(speed.value));
}

function failed(text) {
  isComplete = true;
  failure.textContent = text;
  failure.hidden = false;
  if (film) show();
  else said.textContent = "Nothing was played.";
}

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.textContent = isPaused ? "Go on" : "Pause";
  if (isPaused) {
    clearTimeout(timer);
    timer = null;
    show();
  } else next();
});
speed.addEventListener("change", () => {
  if (timer !== null) next();
});

const events = new EventSource(place.dataset.events);
events.addEventListener("film", (event) => {
  film = JSON.parse(event.data);
  controls.hidden = false;
  show();
});
events.addEventListener("more", (event) => {
  const { from, steps, moments, ...rest } = JSON.parse(event.data);
  film = {
    ...film,
    ...rest,
    steps: [...film.steps.slice(0, from), ...steps],
    moments: [...film.moments.slice(0, from + 1), ...moments],
  };
  came();
});
events.addEventListener("over", (event) => {
  events.close();
  isComplete = true;
  whatIf = fork(document.getElementById("fork"), film, { play: JSON.parse(event.data).play });
  show();
});
for (const name of ["refused", "broken"]) {
  events.addEventListener(name, (event) => {
    events.close();
    failed(JSON.parse(event.data).error);
  });
}
// Opening it again would play it again.
events.onerror = () => {
  events.close();
  failed("The connection to the server was lost. Load the page again to play it again.");
};
bar.hidden = false;
