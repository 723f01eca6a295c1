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

// In a popup, the page that opened it is told how it ended, and nobody else.
const { outcome, origin } = document.body.dataset;
if (outcome && origin && window.opener) {
  window.opener.postMessage(JSON.parse(outcome), origin);
  window.close();
}
