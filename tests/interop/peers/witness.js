// Injected into our page: keeps every state that it showed, with the words beside it.
window.witness = [];
addEventListener('DOMContentLoaded', () => {
  const note = () => {
    const { state, agent = null } = document.body.dataset;
    const last = window.witness.at(-1);
    if (last?.state !== state || last?.agent !== agent) window.witness.push({ state, agent });
  };
  note();
  new MutationObserver(note).observe(document.body, { attributes: true });
});
