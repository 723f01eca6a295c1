// Opens the link of a connection request as a popup, and tells how it ended:
//
//   button.onclick = async () => {
//     const { connection } = await MembraneSync.connect(url);
//   };
//
// Rejects with an Error whose `code` is `popup_blocked`, `closed`, `cancelled`, `expired`, `revoked`
// or another word for what went wrong. `MembraneSync.connect(url, { signal })` stops by an AbortSignal.
(() => {
  "use strict";

  const POLL_MS = 1500;
  const MOST_FAILURES = 200;
  const SOURCE = "membrane-sync";

  function failure(code, message) {
    return Object.assign(new Error(message), { code });
  }

  function connect(url, { signal } = {}) {
    const link = new URL(url, window.location.href);
    const status = new URL(`${link.pathname}/status`, link);
    link.searchParams.set("origin", window.location.origin);
    const popup = window.open(link, "_blank", "popup,width=480,height=720");
    if (!popup) {
      const advice = "The browser blocked the popup: call connect() in a click handler";
      return Promise.reject(failure("popup_blocked", advice));
    }
    return new Promise((resolve, reject) => {
      let timer;
      let ended = false;
      let failures = 0;

      function end(settle, value) {
        ended = true;
        clearTimeout(timer);
        window.removeEventListener("message", onMessage);
        signal?.removeEventListener("abort", onAbort);
        settle(value);
      }

      function tell(outcome) {
        if (outcome.status === "success") end(resolve, outcome);
        else end(reject, failure(outcome.error, `Connecting ended: ${outcome.error}`));
      }

      function onMessage(event) {
        const own = event.origin === link.origin && event.source === popup;
        if (own && event.data?.source === SOURCE) tell(event.data);
      }

      function onAbort() {
        popup.close();
        end(reject, signal.reason);
      }

      // The app's page may cut the popup loose from us: then it seems closed, and can't tell us.
      async function look() {
        const closed = popup.closed;
        let seen = { status: "pending", at_app: true };
        try {
          const answer = await fetch(status, { credentials: "omit", cache: "no-store", signal });
          if (answer.ok) seen = await answer.json();
          else if (answer.status === 404) seen = { status: "error", error: "not_found" };
          failures = 0;
        } catch {
          failures += 1;
          if (failures > MOST_FAILURES) seen = { status: "error", error: "unreachable" };
        }
        if (ended) return;
        if (seen.status !== "pending") tell(seen);
        else if (closed && !seen.at_app) end(reject, failure("closed", "The popup was closed"));
        else timer = setTimeout(look, POLL_MS);
      }

      window.addEventListener("message", onMessage);
      signal?.addEventListener("abort", onAbort);
      timer = setTimeout(look, POLL_MS);
    });
  }

  window.MembraneSync = { ...window.MembraneSync, connect };
})();
