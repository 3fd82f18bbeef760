// Injected into our page: keeps every state that it showed, with the words beside it. `happened` has the names of those, and
// of the events in its log, in the order in which they came.
window.witness = [];
window.happened = [];
addEventListener('DOMContentLoaded', () => {
  const note = () => {
    const { state, agent = null } = document.body.dataset;
    const last = window.witness.at(-1);
    if (last?.state !== state) window.happened.push(state);
    if (agent && last?.agent !== agent) window.happened.push(agent);
    if (last?.state !== state || last?.agent !== agent) window.witness.push({ state, agent });
  };
  note();
  new MutationObserver(note).observe(document.body, { attributes: true });
  new MutationObserver((changes) => {
    const rows = changes.flatMap(({ addedNodes }) => [...addedNodes]);
    window.happened.push(...rows.map((row) => row.dataset?.type).filter(Boolean));
  }).observe(document.getElementById('events'), { childList: true });
});
