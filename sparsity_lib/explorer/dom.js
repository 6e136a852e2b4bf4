/** Elements without markup: text given here stays text. */

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An HTML element with attributes and children. */
export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element with attributes and children. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** The two networks that may be shown, as classes of the style sheet. */
export const KINDS = ["first", "second"];

/** A piece of a network's line. */
export function swatch(kind) {
  const line = svg("line", { x1: 0, x2: 20, y1: 5, y2: 5, class: `line ${kind}` });
  return svg("svg", { viewBox: "0 0 20 10", class: "swatch", "aria-hidden": "true" }, line);
}

/** A number with a true minus sign. */
export function signed(number) {
  return String(number).replace("-", "−");
}

/** "Epoch 3 of 99"; epoch -1 is before training. */
export function epochName(epoch, last) {
  return epoch < 0 ? `Epoch ${signed(epoch)}, before training` : `Epoch ${epoch} of ${last}`;
}

/** Keep the `dark` attribute as the page's theme: the book's, JupyterLab's, else the system's. */
export function followTheme(host) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const update = () => {
    const book = document.documentElement.dataset.theme;
    const lab = document.body.dataset.jpThemeLight;
    const dark = book ? book === "dark" : lab ? lab === "false" : system.matches;
    host.toggleAttribute("dark", dark);
  };
  const observer = new MutationObserver(update);
  observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  observer.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  system.addEventListener("change", update);
  update();
  return () => {
    observer.disconnect();
    system.removeEventListener("change", update);
  };
}
