"use strict";

// Says that something is going on, and keeps a form from being sent twice.
for (const form of document.querySelectorAll("form[data-busy]")) {
  form.addEventListener("submit", () => {
    form.querySelector("[role=status]").textContent = form.dataset.busy;
    form.querySelector("button").disabled = true;
  });
}

// A page that comes back out of the browser's memory can be used again.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});

// Looks again and again whether a code was entered at the app, and then goes on with what follows.
const waiting = document.querySelector("[data-waiting]");
const pause = () => setTimeout(look, waiting.dataset.waiting * 1000);

async function look() {
  try {
    const answer = await fetch(window.location.href, { cache: "no-store" });
    const waits = answer.status >= 500 || (await answer.text()).includes("data-waiting");
    if (!waits) return window.location.replace(answer.url);
  } catch {
    // The network is away for a moment.
  }
  return pause();
}

if (waiting) pause();

// In a popup, the page that opened it is told how it ended, and nobody else.
const { outcome, origin } = document.body.dataset;
if (outcome && origin && window.opener) {
  window.opener.postMessage(JSON.parse(outcome), origin);
  window.close();
}
