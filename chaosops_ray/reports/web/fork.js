// The form that forks an episode at a moment, and both futures side by side.
//
//   fork(element, film, episode)   element: the fold with the form, see film.html; episode: { run, file, number }
//
// Returns { show(moment) }, which says which moment is shown now.

import { compare } from "./film.js";

const PAUSE_MILLISECONDS = 250; // whoever moves through a film quickly asks for nothing on the way

export function fork(element, film, episode) {
  const record = { film, episode };
  let base = record; // what is forked: the film of the page, or a future that was made of it
  const form = element.querySelector("form");
  const { action, written, policy } = form.elements;
  const listed = element.querySelector("[data-fork-listed]");
  const turn = element.querySelector("[data-fork-turn]");
  const words = element.querySelector("[data-fork-error]");
  const result = element.querySelector("[data-fork-result]");
  const button = form.querySelector("button");
  let moment = 0; // of what is forked
  let pageMoment = 0;
  let asked = null; // the step whose actions are offered
  let waiting = null;
  let isPlaying = false;
  let shown = null;

  function refresh() {
    const step = base.film.steps[moment];
    const where = base === record ? "At this moment" : "At the moment of the fork that is shown below";
    turn.textContent = step
      ? `${where}, ${step.role} has turn ${moment + 1}.`
      : `${where}, the episode is over; go back to one where somebody has a turn.`;
    form.hidden = !step;
    if (!step || !element.open || asked === moment) return;
    clearTimeout(waiting);
    waiting = setTimeout(offer, PAUSE_MILLISECONDS);
  }

  async function offer() {
    const step = moment;
    asked = step;
    action.replaceChildren(option("", "loading …"));
    try {
      const query = new URLSearchParams({ ...base.episode, step });
      const found = await answerOf(await fetch(`${element.dataset.permitted}?${query}`));
      if (step !== asked) return;
      listed.hidden = found.kinds === null;
      action.replaceChildren(option("", "as its player chooses"), ...(found.kinds ?? []).map(group));
    } catch (error) {
      if (step !== asked) return;
      asked = null;
      listed.hidden = true;
      say(error.message);
    }
  }

  function group(kind) {
    const made = document.createElement("optgroup");
    made.label = (kind[0] ?? "").split(" ")[0] || "other";
    made.append(...kind.map((text) => option(text, text.length > 120 ? `${text.slice(0, 119)}…` : text)));
    return made;
  }

  async function playOn(event) {
    event.preventDefault();
    if (isPlaying) return;
    const step = moment;
    const text = written.value.trim() || action.value;
    if (!text && !policy.value) {
      say("Choose an action, or who plays on, or both.");
      return;
    }
    isPlaying = true;
    say("");
    button.disabled = true;
    button.textContent = "playing …";
    try {
      const wanted = { episode: base.episode, step, ...(text ? { action: text } : {}), ...(policy.value ? { policy: policy.value } : {}) };
      const answer = await fetch(element.dataset.fork, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(wanted),
      });
      show(await answerOf(answer), step);
    } catch (error) {
      say(error.message);
    }
    isPlaying = false;
    button.disabled = false;
    button.textContent = "Play it on";
  }

  function show(other, step) {
    const heading = document.createElement("h2");
    heading.textContent = `Two futures from turn ${step + 1}`;
    heading.tabIndex = -1;
    const note = document.createElement("p");
    note.className = "help";
    const fresh = other.fork?.fresh ?? [];
    note.textContent = fresh.length
      ? `Who plays ${fresh.join(", ")} in the fork has read nothing of what was read there before.`
      : "Whoever played a seat before the fork plays it after it, with all that was read there.";
    const films = document.createElement("div");
    const again = document.createElement("button");
    again.type = "button";
    const future = { film: other, episode: { play: other.play } };
    const rebase = (to) => {
      base = to;
      again.textContent = base === record ? "Fork this future" : "Fork the first film again";
      moment = base === record ? pageMoment : shown.state().moment;
      asked = null;
      refresh();
    };
    again.addEventListener("click", () => {
      rebase(base === record ? future : record);
      element.scrollIntoView();
    });
    shown?.end();
    result.replaceChildren(heading, note, again, films);
    const names = [`${base === record ? "as it was" : "the fork before"}: ${base.film.policy}`, `the fork: ${other.policy}`];
    shown = compare(films, [base.film, other], {
      names,
      moment: step + 1,
      onShow: (state) => {
        if (base === record) return;
        moment = state.moment;
        refresh();
      },
    });
    // A future that was forked gives way to what was made of it.
    rebase(base === record ? record : future);
    heading.focus();
    heading.scrollIntoView();
  }

  function say(text) {
    words.textContent = text;
  }

  form.addEventListener("submit", playOn);
  element.addEventListener("toggle", refresh);
  element.hidden = false;
  return {
    show: (now) => {
      pageMoment = now;
      if (base === record) moment = now;
      refresh();
    },
  };
}

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

async function answerOf(answer) {
  let found = null;
  try {
    found = await answer.json();
  } catch {
    throw new Error("the control room does not answer; see whether it still runs");
  }
  if (!answer.ok) throw new Error(found.error ?? found.detail ?? "this cannot be played");
  return found;
}
