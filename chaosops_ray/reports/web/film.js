// Draws films of episodes (the JSON of reports/film.py), moment by moment, for a spectator or as one role saw it.
//
//   draw(element, film, options)               one film
//   compare(element, [film, other], options)   two films of one scenario side by side, their moments linked
//
// Options: `moment` and `role` to begin with; `names`, what the two films are called; `page: true`, arrow keys work
// wherever the focus is on the page; `onShow(state)`, called with { moment, role, truth } after each change.
// Both return { state(), show(changes), update(films), end() }; `update` takes films that have grown, and follows them if
// the last moment is shown.
//
// A film holds what models wrote. It becomes text nodes, never markup, and nothing in it is trusted to be short.

export const SPECTATOR = "spectator";

const TONES = new Set(["muted", "good", "warn", "bad", "accent"]);
const COLOURS = 10; // of the variables --series-N
const SHORT = 20; // characters of a cell that is not broken into lines
const LONG = 600; // characters of a cell that are shown at once
const MANY = 14; // rows of a panel that are shown at once
const STRIP = 160; // bars of a strip of log-probabilities
const TURN_MILLISECONDS = 1000;
const DRAWN_BY_BARS = /^[▁-█]+$/;
const NUMERIC = /^[-+−]?[\d.,]+ ?(%|\p{L}{1,3})?$/u;
const DIGEST = /^[0-9a-f]{32,}$/;
const SVG = "http://www.w3.org/2000/svg";

let drawings = 0; // ids and names of radio buttons are unique on a page

export function draw(element, film, options = {}) {
  return play(element, [film], options);
}

export function compare(element, films, options = {}) {
  return play(element, films, options);
}

// -- one or two films with their controls ------------------------------------------------------------------------

function play(element, given, options) {
  const id = `film-${(drawings += 1)}`;
  const state = { moment: 0, role: SPECTATOR, truth: false };
  const folds = new Map(); // which folds are open, so that they stay so from moment to moment
  const root = make("div", { class: "film", "data-films": given.length });
  const both = make("div", {});
  const stages = make("div", { class: "film-stages" });
  const controls = controlsOf(id, {
    seek: (moment) => { stop(); show({ moment }); },
    step: (by) => { stop(); show({ moment: state.moment + by }); },
    toggle: () => (timer === null ? start() : stop()),
    role: (role) => show({ role }),
    truth: (truth) => show({ truth }),
  });
  const act = {
    seek: controls.act.seek,
    role: (role) => { show({ role }); controls.focusRole(role); },
    single: (name) => { act.singled = act.singled === name ? null : name; show({}); },
    singled: null, // the line that is followed in all charts
  };
  let timer = null;
  let films, last, roles, parts;
  root.append(controls.element, controls.hint, both, stages);
  element.replaceChildren(root);

  function take(given) {
    films = given.map(whole);
    last = Math.max(...films.map(lastMoment));
    const known = roles;
    roles = [...new Set(films.flatMap((film) => film.roles))];
    if (String(known) !== String(roles)) controls.setRoles(roles);
    controls.setLast(last);
    const isAlone = films.length === 1;
    const names = options.names ?? films.map((film) => film.policy);
    const fork = isAlone ? -1 : firstDifference(...films);
    const bounds = chartBounds(films);
    const focused = document.activeElement?.closest("[data-step]")?.dataset.step;
    const stage = (film, index) =>
      stageOf(film, { id: `${id}-${index}`, name: names[index], isAlone, last, bounds, fork, folds, act });
    const made = films.map(stage);
    stages.replaceChildren(...made.map((one) => one.element));
    parts = [...made];
    if (!isAlone) {
      const together = bothOf(films, names, fork, act.seek);
      both.replaceChildren(together.element);
      parts.push(together);
    }
    return () => focused && stages.querySelector(`[data-step="${focused}"]`)?.focus({ preventScroll: true });
  }

  function show(changes) {
    Object.assign(state, changes);
    state.moment = Math.max(0, Math.min(last, Math.trunc(Number(state.moment)) || 0));
    if (!roles.includes(state.role)) state.role = SPECTATOR;
    root.dataset.moment = state.moment;
    root.dataset.role = state.role;
    root.dataset.truth = state.truth ? "on" : "off";
    controls.show(state, sayMoment(films, state), timer !== null, last);
    for (const part of parts) part.show(state);
    options.onShow?.({ ...state });
  }

  function start() {
    if (state.moment === last) state.moment = 0;
    timer = setInterval(() => {
      if (!root.isConnected || state.moment + 1 >= last) stop();
      show({ moment: state.moment + 1 });
    }, TURN_MILLISECONDS);
    show({});
  }

  function stop() {
    if (timer === null) return;
    clearInterval(timer);
    timer = null;
    show({});
  }

  function onKey(event) {
    const { target } = event;
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.defaultPrevented) return;
    if (target.closest?.("input, select, textarea, [contenteditable]")) return; // they have uses of their own for them
    const isElsewhere = !root.contains(target);
    if (isElsewhere && (!options.page || target.closest?.(".film"))) return;
    const isScrolled = target.closest?.("[data-scrolls]");
    if (event.key === "ArrowRight" && !isScrolled) controls.act.step(1);
    else if (event.key === "ArrowLeft" && !isScrolled) controls.act.step(-1);
    else if (event.key === "Home" && !isScrolled) controls.act.seek(0);
    else if (event.key === "End" && !isScrolled) controls.act.seek(last);
    else return;
    event.preventDefault();
  }

  document.addEventListener("keydown", onKey);
  take(given);
  show({ moment: options.moment ?? 0, role: options.role ?? SPECTATOR });
  return {
    state: () => ({ ...state }),
    show: (changes) => { stop(); show(changes); },
    update: (grown) => {
      const isAtEnd = state.moment === last;
      const focus = take([grown].flat());
      show(isAtEnd ? { moment: last } : {});
      focus();
    },
    end: () => { stop(); document.removeEventListener("keydown", onKey); element.replaceChildren(); },
  };
}

// A film with all parts that are looked at, so that one that lacks some is drawn as far as it goes.
function whole(film) {
  const { steps = [], moments = [], charts = [], metrics = [], prompts = {}, examples = {}, roles = [] } = film;
  return { ...film, steps, moments, charts, metrics, prompts, examples, roles };
}

function controlsOf(id, act) {
  const button = (name, label, shown, onClick) => {
    const made = make("button", { type: "button", "data-do": name, "aria-label": label, title: label }, shown);
    made.addEventListener("click", onClick);
    return made;
  };
  const first = button("first", "to the beginning", icon("M3 2v12M13 2 5 8l8 6z"), () => act.seek(0));
  const back = button("back", "one turn back", icon("M11 2 4 8l7 6z"), () => act.step(-1));
  const toggle = button("play", "play", icon("M4 2l9 6-9 6z"), act.toggle);
  const on = button("on", "one turn on", icon("M5 2l7 6-7 6z"), () => act.step(1));
  const end = button("last", "to the end", icon("M13 2v12M3 2l8 6-8 6z"), () => act.seek(last));
  const range = make("input", { type: "range", min: 0, max: 0, step: 1, "aria-label": "moment of the episode" });
  range.addEventListener("input", () => act.seek(range.value));
  const said = make("p", { class: "film-now", "data-now": true });

  const radios = new Map();
  const choice = make("fieldset", { class: "film-roles" }, make("legend", {}, "Seen by"));
  const truth = make("input", { type: "checkbox", "data-truth-switch": true });
  truth.addEventListener("change", () => act.truth(truth.checked));
  const truthLabel = make("label", { class: "film-truth-switch" }, truth, make("span", {}, "Show the truth"));
  const hint = make("p", { class: "help film-hint" });

  return {
    act,
    element: make("div", { class: "film-controls" },
      make("div", { class: "film-scrub", role: "group", "aria-label": "Moments" },
        make("div", { class: "film-buttons" }, first, back, toggle, on, end), range),
      said,
      make("div", { class: "film-switches" }, choice, truthLabel)),
    hint,
    setRoles: (roles) => {
      for (const radio of radios.values()) radio.parentElement.remove();
      radios.clear();
      for (const role of [SPECTATOR, ...roles]) {
        const radio = make("input", { type: "radio", name: `${id}-role`, value: role, "data-see-as": role });
        radio.addEventListener("change", () => act.role(role));
        radios.set(role, radio);
        choice.append(make("label", {}, radio, make("span", {}, cut(role, 40))));
      }
    },
    setLast: (last) => {
      range.max = last;
      range.disabled = toggle.disabled = last === 0;
    },
    focusRole: (role) => radios.get(role)?.focus(),
    show: (state, text, isPlaying, last) => {
      range.value = state.moment;
      range.setAttribute("aria-valuetext", text);
      said.textContent = text;
      said.setAttribute("role", "status");
      said.setAttribute("aria-live", isPlaying ? "off" : "polite");
      first.disabled = back.disabled = state.moment === 0;
      on.disabled = end.disabled = state.moment === last;
      const label = isPlaying ? "pause" : "play";
      toggle.setAttribute("aria-label", label);
      toggle.title = label;
      toggle.replaceChildren(icon(isPlaying ? "M4 2h3v12H4zM9 2h3v12H9z" : "M4 2l9 6-9 6z"));
      for (const [role, radio] of radios) radio.checked = role === state.role;
      truth.checked = state.truth;
      truthLabel.hidden = state.role !== SPECTATOR;
      hint.textContent = state.role === SPECTATOR
        ? "A spectator sees everything that happens, and not why: the truth behind it shows only if you ask for it. What the last turn changed is marked."
        : `Only what ${cut(state.role, 40)} saw and read at its latest turn, and what it wrote. What is new since its turn before is marked.`;
    },
  };
}

function lastMoment(film) {
  return Math.max(0, film.moments.length - 1, film.steps.length);
}

function sayMoment(films, state) {
  const lengths = films.map((film) => film.steps.length);
  const of = Math.max(...lengths);
  if (of === 0) return "No turn has been taken.";
  if (state.moment === 0) return `Before the first of ${of} ${of === 1 ? "turn" : "turns"}`;
  const step = films.map((film) => film.steps[state.moment - 1]).find((found) => found);
  return `After turn ${state.moment} of ${of}${films.length === 1 && step ? `: ${cut(step.role, 40)}` : ""}`;
}

// -- two films beside each other ----------------------------------------------------------------------------------

function firstDifference(film, other) {
  const length = Math.max(film.steps.length, other.steps.length);
  for (let index = 0; index < length; index += 1) {
    const [one, two] = [film.steps[index], other.steps[index]];
    if (!one || !two || one.role !== two.role || one.action !== two.action) return index;
  }
  return -1;
}

function bothOf(films, names, fork, seek) {
  const element = make("section", { class: "film-both", "aria-label": "The two together" });
  const goes = make("button", { type: "button", "data-do": "difference" }, "go there");
  goes.addEventListener("click", () => seek(fork + 1));
  const where = make("p", { "data-first-difference": fork });
  if (films[0].scenario !== films[1].scenario) {
    where.append("These are episodes of different scenarios. ");
  }
  if (fork < 0) where.append("Both take the same actions to the end.");
  else where.append(`The first difference is turn ${fork + 1}: `, make("span", { "data-differs": true }), " ", goes);
  const table = make("div", {});
  element.append(where, table);
  return {
    element,
    show: (state) => {
      const isSpectator = state.role === SPECTATOR;
      const differs = where.querySelector("[data-differs]");
      if (differs) {
        // What another role did is not for the one whose eyes are used.
        const [one, two] = films.map((film) => film.steps[fork]);
        const isShown = isSpectator || [one, two].some((step) => step?.role === state.role);
        const told = (step) => (step ? `${step.role} ${step.action}` : "the episode is over");
        differs.replaceChildren(...(isShown
          ? [quoted(cut(told(one), 80)), " and ", quoted(cut(told(two), 80))]
          : ["by another role"]));
      }
      table.replaceChildren(...(isSpectator ? [rubrics(films, names, state.moment)] : []));
    },
  };
}

function quoted(text) {
  return make("q", {}, make("bdi", {}, text));
}

// -- one film -----------------------------------------------------------------------------------------------------

function stageOf(film, { id, name, isAlone, last, bounds, fork, folds, act }) {
  const place = isAlone ? "" : `, ${cut(name, 40)}`; // makes the names of regions unique
  const title = make("h2", { id }, isAlone ? "The episode" : make("bdi", {}, cut(name, 80)));
  const about = make("p", { class: "about" });
  const turns = turnsOf(film, fork, act);
  const view = make("div", { class: "film-view" });
  const charts = chartsOf(film, last, bounds, act);
  const element = make("section", { class: "film-stage", "aria-labelledby": id, "data-policy": film.policy },
    title, about,
    make("div", { class: "film-columns" }, turns.element, view),
    charts.element);
  return {
    element,
    show: (state) => {
      const own = { ...state, moment: Math.min(state.moment, lastMoment(film)) };
      const isSpectator = state.role === SPECTATOR;
      about.replaceChildren(...aboutFilm(film, isSpectator, isSpectator && state.truth));
      turns.show(own);
      const made = isSpectator
        ? spectatorView(film, own, state.moment - own.moment, isAlone, place, act)
        : roleView(film, own, folds, id, place);
      view.replaceChildren(...made);
      for (const box of view.querySelectorAll("[data-scroll-to]")) scrollToMark(box);
      charts.element.hidden = !isSpectator || film.charts.length === 0;
      if (isSpectator) charts.show(own.moment);
    },
  };
}

function aboutFilm(film, isSpectator, isTruthShown) {
  const parts = [["policy", film.policy]];
  if (isSpectator) {
    for (const [key, value] of Object.entries(film.model ?? {})) {
      parts.push([key, DIGEST.test(value) ? cut(value, 13) : value ?? "none"]);
    }
    parts.push(["tier", film.tier], ["rules", film.rules]);
    if (!film.is_over) parts.push(["state", "not over"]);
    else if (film.headline) parts.push([film.headline.name, film.headline.text.replace("-", "−")]);
  }
  if (isTruthShown) parts.push(["scenario", film.scenario]);
  return parts.map(([key, value]) => make("span", { class: "film-fact" },
    make("span", { class: "soft" }, `${cut(key, 40)} `),
    make("bdi", key === "scenario" ? { "data-scenario": true } : {}, cut(value, 200))));
}

// The list of turns: a button each, which leads to the moment after it.
function turnsOf(film, fork, act) {
  const list = make("ol", { class: "film-turns", "data-turns": true });
  const items = film.steps.map((step, index) => {
    const said = make("span", { class: "film-action" });
    const more = make("span", { class: "film-outcome" });
    const reward = make("span", { class: "film-reward" });
    const button = make("button", { type: "button", "data-step": index },
      make("span", { class: "film-number" }, String(index + 1)),
      make("span", { class: "film-who" }, cut(step.role, 40)), reward, said, more);
    if (index === fork) button.append(make("span", { class: "film-fork" }, "first difference"));
    button.addEventListener("click", () => act.seek(index + 1));
    list.append(make("li", {}, button));
    return { step, button, said, more, reward };
  });
  const element = make("div", { class: "film-side" }, make("h3", {}, "Turns"),
    items.length ? list : make("p", { class: "soft" }, "Nobody has acted."));
  return {
    element,
    show: (state) => {
      const isSpectator = state.role === SPECTATOR;
      for (const [index, { step, button, said, more, reward }] of items.entries()) {
        const isVisible = isSpectator || step.role === state.role;
        button.classList.toggle("film-others", !isVisible);
        button.toggleAttribute("data-error", isVisible && Boolean(step.error));
        said.textContent = isVisible ? cut(step.action, 160) : "";
        reward.textContent = isSpectator ? amount(step.reward) : "";
        reward.className = `film-reward ${isSpectator ? signOf(step.reward) : ""}`;
        const outcome = isSpectator && state.truth ? step.outcome : [];
        more.replaceChildren(...outcome.map((event) => make("span", { class: "film-tag" }, cut(spoken(event), 60))));
        if (index + 1 === state.moment) button.setAttribute("aria-current", "step");
        else button.removeAttribute("aria-current");
      }
      const current = items[state.moment - 1]?.button;
      if (current) nearest(list, current);
      else list.scrollTop = 0;
    },
  };
}

function nearest(list, item) {
  // Not scrollIntoView, which would move the page as well.
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + item.offsetHeight > list.scrollTop + list.clientHeight) {
    list.scrollTop = top + item.offsetHeight - list.clientHeight;
  }
}

// -- as a spectator -----------------------------------------------------------------------------------------------

function spectatorView(film, state, tooLate, isAlone, place, act) {
  const moment = film.moments[state.moment];
  const before = film.moments[state.moment - 1];
  if (!moment) return [make("p", { class: "soft" }, "This film has no moments.")];
  const parts = [];
  if (tooLate > 0) parts.push(make("p", { class: "notice calm" }, "The episode is over."));
  parts.push(turnCard(film, state, act));
  if (state.truth) {
    const truth = make("section", { class: "film-truth", "data-truth-panels": true },
      panels(moment.truth, before?.truth, place));
    if (state.moment === lastMoment(film) && film.metrics.length) truth.append(metrics(film));
    parts.push(truth);
  }
  parts.push(panels(moment.board, before?.board, place));
  if (isAlone) parts.push(rubrics([film], [film.policy], state.moment));
  return parts;
}

function turnCard(film, state, act) {
  const card = make("section", { class: "film-turn", "data-turn": state.moment });
  const step = film.steps[state.moment - 1];
  if (!step) {
    const [next] = film.steps;
    card.append(make("p", {}, next ? `Nobody has acted yet. ${cut(next.role, 40)} is first.` : "Nobody has acted yet."));
    return card;
  }
  const asRole = make("button", { type: "button", "data-do": "as-role" }, `what ${cut(step.role, 40)} saw`);
  asRole.addEventListener("click", () => act.role(step.role));
  card.append(
    make("p", { class: "film-turn-head" },
      make("strong", {}, cut(step.role, 40)), " ",
      make("span", { class: "soft" }, player(step)), asRole),
    make("p", { class: "film-said" }, ...longText(step.action)));
  if (step.error) card.append(make("p", { class: "film-error" }, "came to nothing: ", ...longText(step.error)));
  if (state.truth && step.outcome.length) {
    card.append(make("p", { class: "film-outcome", "data-outcome": true },
      ...step.outcome.map((event) => make("span", { class: "film-tag" }, cut(spoken(event), 60)))));
  }
  return card;
}

function player(step) {
  return `played by ${cut(step.player, 60)}${step.version >= 0 ? `, version ${step.version}` : ""}`;
}

function metrics(film) {
  const rows = film.metrics.map(({ name, value, is_share: isShare }) => make("tr", {},
    make("th", { scope: "row" }, cut(spoken(name), 60)),
    make("td", { class: "n" }, value === null ? "–" : isShare ? `${Math.round(100 * value)} %` : String(value))));
  return make("section", { class: "film-panel" }, make("h3", {}, "how the episode counts"),
    make("p", { class: "help" }, "Each figure is a mean over episodes in the evaluation; here it is of this episode alone."),
    make("table", {}, make("tbody", {}, rows)));
}

// Rewards by rubric up to a moment, of one film with the turn's own, or of two with their difference.
function rubrics(films, names, moment) {
  const sums = films.map((film) => earned(film.steps.slice(0, moment)));
  const found = [...new Set(sums.flatMap((sum) => [...sum.keys()]))].sort();
  const isPair = films.length > 1;
  const turn = earned(films[0].steps.slice(moment - 1, moment));
  const columns = isPair
    ? [...names.map((name) => cut(name, 40)), "difference"]
    : ["this turn", "so far"];
  const figures = (get) => {
    if (!isPair) return [moment === 0 ? null : get(turn), get(sums[0])];
    const [one, two] = sums.map(get);
    return [one, two, two - one];
  };
  const line = (head, values, attributes = {}) => make("tr", attributes, make("th", { scope: "row" }, head),
    values.map((value) => make("td", { class: `n ${signOf(value)}` }, value === null ? "" : amount(value))));
  const body = make("tbody", {}, found.map((key) => line(cut(spoken(key), 60), figures((sum) => sum.get(key) ?? 0))),
    line("return", figures((sum) => total(sum.values())), { class: "film-sum", "data-sum": true }));
  const table = make("table", { class: "full" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "rubric"),
      columns.map((column) => make("th", { scope: "col", class: "n" }, make("bdi", {}, column))))), body);
  return make("section", { class: "film-panel film-rubrics", "data-rubrics": true },
    make(isPair ? "h2" : "h3", {}, "reward by rubric"),
    make("p", { class: "help" }, "In points. The return is the sum of all rewards so far."),
    isPair ? scrolling("reward by rubric of both", table) : table);
}

function earned(steps) {
  const sums = new Map();
  for (const step of steps) {
    for (const [name, value] of step.components) sums.set(name, (sums.get(name) ?? 0) + value);
  }
  return sums;
}

function total(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function lowest(values) {
  return values.reduce((one, other) => (other < one ? other : one));
}

// -- as a role ----------------------------------------------------------------------------------------------------

function roleView(film, state, folds, id, place) {
  const own = film.steps
    .map((step, index) => ({ step, index }))
    .filter(({ step, index }) => step.role === state.role && index < state.moment);
  const role = cut(state.role, 40);
  if (!own.length) {
    const acts = film.steps.some((step) => step.role === state.role);
    return [make("p", { class: "film-unseen", "data-unseen": true },
      acts ? `${role} has not looked yet: its first turn comes later.` : `${role} has had no turn in this episode.`)];
  }
  const { step, index } = own.at(-1);
  const before = own.at(-2)?.step;
  const since = state.moment - index - 1;
  const parts = [
    make("p", { class: "film-turn-head", "data-seen-at": index },
      make("strong", {}, `${role} at turn ${index + 1}`), " ",
      make("span", { class: "soft" }, `${player(step)}${since ? `; it has not had a turn since` : ""}`)),
    make("h3", { class: "film-part" }, "What it saw"),
    panels(step.seen, before?.seen, place),
    make("h3", { class: "film-part" }, "Its conversation"),
  ];
  const prompt = film.prompts[state.role];
  if (prompt !== undefined) {
    parts.push(fold(folds, `${id} system`, "System prompt", () => [verbatim(`system prompt${place}`, prompt, "data-prompt")]));
  }
  const examples = film.examples[state.role] ?? [];
  if (examples.length) {
    parts.push(fold(folds, `${id} examples`, `Examples of answers (${examples.length})`, () => examples.flatMap(([asked, answer], at) => [
      make("h4", {}, `example ${at + 1}`),
      verbatim(`what example ${at + 1} asks${place}`, asked, "data-example"),
      verbatim(`what example ${at + 1} answers${place}`, answer, "data-example"),
    ])));
  }
  if (own.length > 1) {
    parts.push(fold(folds, `${id} earlier`, `Its turns before (${own.length - 1})`, () => own.slice(0, -1).flatMap((one) => [
      make("h4", {}, `turn ${one.index + 1}`),
      verbatim(`what it read at turn ${one.index + 1}${place}`, one.step.read),
      verbatim(`what it wrote at turn ${one.index + 1}${place}`, one.step.wrote),
    ])));
  }
  const isOwnText = step.digest !== "";
  parts.push(
    make("h4", {}, "It read"),
    ...(own.length > 1 ? [make("p", { class: "help" }, "What is new since its turn before.")] : []),
    verbatim(`what it read${place}`, step.read, "data-read"),
    make("h4", {}, "It wrote"),
    make("p", { class: "help", "data-own-text": isOwnText }, isOwnText
      ? "The model's own text, token for token."
      : "No text of a model is recorded for this turn. A model would have written the action like this."),
    verbatim(`what it wrote${place}`, step.wrote, "data-wrote"));
  if (step.error) parts.push(make("p", { class: "film-error" }, "came to nothing: ", ...longText(step.error)));
  const logProbs = step.log_probs.filter(Number.isFinite);
  if (logProbs.length) parts.push(certainty(logProbs));
  return parts;
}

function fold(folds, key, title, fill) {
  const made = make("details", { class: "film-fold" }, make("summary", {}, title));
  const filled = () => { if (made.children.length === 1) made.append(...fill()); };
  made.open = folds.get(key) ?? false;
  if (made.open) filled();
  made.addEventListener("toggle", () => { folds.set(key, made.open); if (made.open) filled(); });
  return made;
}

function verbatim(name, text, mark) {
  return make("pre", { class: "film-text", tabindex: 0, role: "region", "aria-label": name, "data-scrolls": true,
    ...(mark ? { [mark]: true } : {}) }, text === "" ? make("span", { class: "soft" }, "(nothing)") : String(text));
}

// The log-probabilities of a completion's tokens: their sum and mean, and a bar for each token. A choice among whole
// actions has only one, however many tokens the action has.
function certainty(logProbs) {
  const sum = total(logProbs);
  const least = logProbs.indexOf(lowest(logProbs));
  const each = Math.ceil(logProbs.length / STRIP);
  const bars = [];
  for (let at = 0; at < logProbs.length; at += each) bars.push(-lowest(logProbs.slice(at, at + each)));
  const top = Math.max(2, ...bars);
  const strip = svg("svg", { class: "film-strip", viewBox: `0 0 ${bars.length} 1`, preserveAspectRatio: "none", role: "img",
    "aria-label": `a bar for each token; the least likely is token ${least + 1} of ${logProbs.length}` });
  for (const [index, height] of bars.entries()) {
    const shown = Math.max(0.02, height / top);
    strip.append(svg("rect", { x: index + 0.08, width: 0.84, y: 1 - shown, height: shown }));
  }
  const figure = (name, text, help) => make("div", {}, make("dt", {}, name), make("dd", {}, text, make("small", {}, help)));
  const count = `${logProbs.length} tokens`;
  if (logProbs.length === 1) {
    return make("section", { class: "film-certainty", "data-log-probs": 1 },
      make("h4", {}, "How sure it was"),
      make("p", { class: "help" }, "Log-probability of what it drew, in nats: of the whole action where it had to choose one, otherwise of its only token. 0 is certain, −0.69 one in two, −4.6 one in a hundred."),
      make("dl", {}, figure("log-probability", fixed(sum), `${chance(sum)} for the whole text`)));
  }
  return make("section", { class: "film-certainty", "data-log-probs": logProbs.length },
    make("h4", {}, "How sure it was"),
    make("p", { class: "help" }, "Log-probabilities of the tokens that it drew, in nats: 0 is certain, −0.69 one in two, −4.6 one in a hundred."),
    make("dl", {},
      figure("sum", fixed(sum), `${count}; ${chance(sum)} for the whole text`),
      figure("mean", fixed(sum / logProbs.length), "per token"),
      figure("least likely", fixed(logProbs[least]), `token ${least + 1}; ${chance(logProbs[least])}`)),
    ...(bars.length > 1 ? [strip, make("p", { class: "help" }, each === 1
      ? "A bar for each token, the higher the less likely."
      : `A bar for the least likely of each ${each} tokens, the higher the less likely.`)] : []));
}

function chance(logProb) {
  const value = 100 * Math.exp(logProb);
  return value >= 0.1 ? `${value.toFixed(1)} %` : "below 0.1 %";
}

// -- panels -------------------------------------------------------------------------------------------------------

function panels(found, before, place) {
  const earlier = new Map((before ?? []).map((panel) => [panel.title, panel]));
  return make("div", { class: "film-panels" },
    (found ?? []).map((panel) => panelOf(panel, before && (earlier.get(panel.title) ?? { rows: [] }), place)));
}

function panelOf(panel, before, place) {
  const marks = before ? changedCells(panel, before) : null;
  const width = Math.max(1, panel.heading.length, ...panel.rows.slice(0, 1000).map((row) => row.length));
  const numeric = panel.heading.map((_, column) =>
    panel.rows.length > 0 && panel.rows.every((row) => NUMERIC.test(row[column]?.[0] ?? "")));
  const isShort = Array.from({ length: width }, (_, column) =>
    panel.rows.length > 1 && panel.rows.every((row) => (row[column]?.[0] ?? "").length <= SHORT));
  const rows = panel.rows.map((row, index) => make("tr", {}, row.map(([text, tone], column) => {
    const isLast = column === row.length - 1;
    const cell = make("td", {
      class: [
        TONES.has(tone) ? `film-${tone}` : "",
        numeric[column] ? "n" : "",
        DRAWN_BY_BARS.test(text) ? "film-bars" : "",
        isShort[column] && !isLast ? "film-short" : "",
      ].filter(Boolean).join(" ") || null,
      colspan: isLast && row.length < width && !panel.heading.length ? width - row.length + 1 : null,
    }, ...longText(text));
    if (marks?.[index]?.[column]) cell.setAttribute("data-changed", "");
    return cell;
  })));
  const table = make("table", { class: panel.heading.length ? "full film-table" : "film-list" });
  if (panel.heading.length) {
    table.append(make("thead", {}, make("tr", {}, panel.heading.map((name, column) => name
      ? make("th", { scope: "col", class: numeric[column] ? "n" : null }, cut(name, 60))
      : make("td", {})))));
  }
  table.append(make("tbody", {}, rows));
  const isLong = rows.length > MANY;
  const box = panel.heading.length || isLong ? scrolling(`${cut(panel.title, 80)}${place}`, table) : table;
  if (isLong) {
    box.classList.add("film-long");
    box.dataset.scrollTo = "";
  }
  return make("section", {
    class: `film-panel${panel.is_wide ? " film-wide" : ""}${TONES.has(panel.tone) ? ` film-of-${panel.tone}` : ""}`,
    "data-panel": panel.title,
  }, make("h3", {}, cut(panel.title, 80)), box);
}

// Which cells are not as they were. Rows are matched by their first cell where it names one row; a row that has no match
// is new as a whole. Bars that draw the past become longer with each turn, and say nothing new; nor does a panel of one
// row, which counts the turns.
function changedCells(panel, before) {
  if (panel.rows.length === 1 && before.rows.length === 1) return [];
  const spell = (row) => JSON.stringify(row.filter(([text]) => !DRAWN_BY_BARS.test(text)));
  const left = new Map();
  for (const row of before.rows) left.set(spell(row), (left.get(spell(row)) ?? 0) + 1);
  const named = (rows) => {
    const found = new Map();
    for (const row of rows) found.set(row[0]?.[0], found.has(row[0]?.[0]) ? null : row);
    return found;
  };
  const [now, then] = [named(panel.rows), named(before.rows)];
  return panel.rows.map((row) => {
    const count = left.get(spell(row)) ?? 0;
    if (count > 0) {
      left.set(spell(row), count - 1);
      return [];
    }
    const name = row[0]?.[0];
    const old = row.length > 1 && now.get(name) ? then.get(name) : null;
    return row.map(([text, tone], column) => {
      if (DRAWN_BY_BARS.test(text)) return false;
      return old ? old[column]?.[0] !== text || old[column]?.[1] !== tone : true;
    });
  });
}

function scrolling(name, ...children) {
  return make("div", { class: "wide", role: "region", "aria-label": name, tabindex: 0, "data-scrolls": true }, ...children);
}

function scrollToMark(box) {
  const mark = box.querySelector("[data-changed]");
  box.scrollTop = mark ? mark.closest("tr").offsetTop - box.offsetTop : box.scrollHeight;
}

// A text as nodes; a long one is cut, with a button that shows the rest.
function longText(text) {
  const whole = String(text ?? "");
  if (whole.length <= LONG) return [whole];
  const part = make("span", {}, cut(whole, LONG));
  const button = make("button", { type: "button", class: "film-more", "data-do": "more" },
    `show all ${whole.length.toLocaleString("en")} characters`);
  button.addEventListener("click", () => {
    part.textContent = whole;
    part.tabIndex = -1;
    button.remove();
    part.focus();
  });
  return [part, " ", button];
}

// -- charts -------------------------------------------------------------------------------------------------------

// The range of each chart, over both films, so that they can be compared by eye.
function chartBounds(films) {
  const found = new Map();
  for (const chart of films.flatMap((film) => film.charts)) {
    let [low, high] = found.get(chart.title) ?? [0, 0];
    for (const { values } of chart.lines) {
      for (const value of values) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    found.set(chart.title, [low, high]);
  }
  return found;
}

function chartsOf(film, last, bounds, act) {
  const charts = film.charts.map((chart, index) => chartOf(chart, index, last, bounds.get(chart.title), act));
  const element = make("section", { class: "film-charts-part" },
    make("h3", { class: "film-part" }, "Over time"),
    make("p", { class: "help" }, "Figures on the right are of the moment shown; what comes later is drawn faintly. Choose a name to follow one line in all charts."),
    make("div", { class: "film-charts" }, charts.map((chart) => chart.element)));
  return { element, show: (moment) => { for (const chart of charts) chart.show(moment); } };
}

function chartOf(chart, number, last, [low, high], act) {
  const ticks = ticksOf(low, high);
  const [bottom, top] = [Math.min(low, ticks[0]), Math.max(high, ticks.at(-1))];
  const span = top - bottom || 1;
  const x = (moment) => (100 * moment) / Math.max(1, last);
  const y = (value) => 100 * (1 - (value - bottom) / span);
  const plot = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const percent = (value) => `${value.toFixed(2)}%`;
  const labels = make("div", { class: "film-y", "aria-hidden": "true" });
  for (const tick of ticks) {
    plot.append(svg("line", { class: "film-grid", x1: 0, x2: 100, y1: y(tick), y2: y(tick) }));
    const label = make("span", {}, figure(tick));
    label.style.setProperty("--at", percent(y(tick)));
    labels.append(label);
  }
  const lines = chart.lines.map(({ name, values }, index) => {
    const made = (kind) => svg("polyline", { class: `film-line film-stroke-${index % COLOURS} ${kind}` });
    const [later, past] = [made("film-later"), made("film-past")];
    later.setAttribute("points", points(values, 0, values.length));
    plot.append(later, past);
    const value = make("span", { class: "n" });
    const button = make("button", { type: "button", "aria-pressed": "false", "data-line": name },
      make("span", { class: `film-swatch series-${index % COLOURS}` }), make("span", { class: "film-line-name" }, cut(name, 40)), value);
    button.addEventListener("click", () => act.single(name));
    return { name, values, past, later, value, button };
  });
  const cursor = svg("line", { class: "film-cursor", y1: 0, y2: 100 });
  plot.append(cursor);

  function points(values, from, to) {
    return values.slice(from, to).map((value, index) => `${x(from + index)},${y(value)}`).join(" ");
  }

  const area = make("div", { class: "film-plot" }, plot);
  const seek = (event) => {
    const box = area.getBoundingClientRect();
    act.seek(Math.round(((event.clientX - box.left) / Math.max(1, box.width)) * last));
  };
  area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); seek(event); });
  area.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });

  const unit = chart.unit ? `, ${cut(chart.unit, 20)}` : "";
  return {
    element: make("figure", { class: "film-chart", "data-chart": chart.title },
      make("figcaption", {}, make("h4", {}, cut(chart.title, 80), make("span", { class: "soft" }, unit)),
        make("p", { class: "help" }, cut(chart.help, 300))),
      make("div", { class: "film-plot-row" }, labels, area),
      make("div", { class: "film-x", "aria-hidden": "true" }, make("span", {}, "start"), make("span", {}, `turn ${last}`)),
      make("div", { class: "film-legend", role: "group", "aria-label": `lines of ${cut(chart.title, 80)}` }, lines.map(({ button }) => button))),
    show: (moment) => {
      cursor.setAttribute("x1", x(moment));
      cursor.setAttribute("x2", x(moment));
      for (const { name, values, past, later, value, button } of lines) {
        past.setAttribute("points", points(values, 0, moment + 1));
        const isOut = act.singled !== null && act.singled !== name;
        for (const part of [past, later, button]) part.classList.toggle("film-out", isOut);
        button.setAttribute("aria-pressed", String(act.singled === name));
        const now = values[Math.min(moment, values.length - 1)];
        value.textContent = now === undefined ? "–" : `${figure(now)}${chart.unit ? ` ${cut(chart.unit, 20)}` : ""}`;
      }
    },
  };
}

function ticksOf(low, high) {
  const span = high - low || 1;
  const rough = span / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough) ?? rough;
  const ticks = [];
  for (let tick = Math.floor(low / step) * step; ticks.length < 8; tick += step) {
    ticks.push(tick);
    if (tick >= high) break;
  }
  return ticks.length > 1 ? ticks : [low, low + 1];
}

// -- text and nodes -----------------------------------------------------------------------------------------------

function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat());
  return made;
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

function icon(path) {
  const made = svg("svg", { viewBox: "0 0 16 16", class: "film-icon", "aria-hidden": "true" });
  made.append(svg("path", { d: path }));
  return made;
}

function cut(text, longest) {
  const whole = String(text ?? "");
  return whole.length <= longest ? whole : `${whole.slice(0, longest - 1)}…`;
}

function spoken(name) {
  return String(name).replaceAll("_", " ").replaceAll(".", ": ");
}

function amount(value) {
  if (value === 0) return "0";
  const text = Math.abs(value).toFixed(2).replace(/\.?0+$/, "") || "0";
  return `${value < 0 ? "−" : "+"}${text}`;
}

function signOf(value) {
  return value > 0 ? "good" : value < 0 ? "bad" : "";
}

function fixed(value) {
  return value.toFixed(2).replace("-", "−");
}

function figure(value) {
  const text = Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  return text.replace("-", "−");
}
