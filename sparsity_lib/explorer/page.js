// A page without a kernel: a model of its own for the element `name`, drawn over the still picture.
const el = document.querySelector(`#${name}:not([data-drawn])`);
el.dataset.drawn = ""; // the same explorer may be on a page twice
const { state, module } = JSON.parse(el.querySelector("script").textContent);
const events = new EventTarget();
const model = {
  get: (key) => state[key],
  set(key, value) {
    if (state[key] === value) return;
    state[key] = value;
    events.dispatchEvent(new Event(`change:${key}`));
  },
  on: (event, listener) => events.addEventListener(event, listener),
  off: (event, listener) => events.removeEventListener(event, listener),
  save_changes() {},
};
// From a Blob: a page opened as a file may not import another file.
const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
const { default: explorer } = await import(url);
URL.revokeObjectURL(url);
explorer.initialize({ model });
await explorer.render({ model, el });
el.querySelector("figure").remove();
