// On a narrow page, where words in figures are small, a tap on a figure opens it at its own size, to be moved about.
const NARROW = "(max-width: 576px)";

function openFigure(link) {
  const dialog = document.createElement("dialog");
  const close = document.createElement("button");
  const picture = link.querySelector("img").cloneNode();
  dialog.className = "full-size";
  dialog.ariaLabel = "The figure at its full size";
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  picture.removeAttribute("style");
  dialog.append(close, picture);
  link.closest("figure").append(dialog); // where the theme's rules for its picture hold
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest(".bd-article figure a.image-reference");
  if (!link || !matchMedia(NARROW).matches) return;
  event.preventDefault();
  openFigure(link);
});
