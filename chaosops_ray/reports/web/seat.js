// The end of a play: draws the film of the episode, alone or beside that of a policy in the same seat.

import { compare, draw } from "./film.js";

const place = document.querySelector("[data-film]");
const failure = document.querySelector("[data-error]");

async function film(player) {
  const answer = await fetch(`${place.dataset.film}?player=${encodeURIComponent(player)}`);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

try {
  const { beside } = place.dataset;
  if (beside) compare(place, await Promise.all([film("you"), film(beside)]), { page: true, names: ["you", beside] });
  else draw(place, await film("you"), { page: true });
} catch (error) {
  failure.textContent = `The film could not be loaded: ${error.message}`;
  failure.hidden = false;
}
