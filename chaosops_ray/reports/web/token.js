// The form that asks for the token. A link may carry the token behind a #, which no server and no log sees. And after a
// link from another site, the browser keeps the cookie back once: asking again from here brings it.

const form = document.querySelector("form");
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname + location.search);
  form.elements.token.value = given;
  form.submit();
} else {
  const answer = await fetch(location.href, { method: "HEAD" });
  if (answer.ok) location.reload();
}
