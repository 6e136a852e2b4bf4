/** The style sheet of an explorer's shadow root, where the page's own styles do not reach. */

const LIGHT = `
  --ground: #ffffff;
  --text: #222832;
  --muted: #566070;
  --edge: #d1d5da;
  --grid: #e6e8eb;
  --accent: #0a6c7d;
  --chosen: #e2f1f3;
  --first: #1f5f8b;
  --second: #b3470f;
  color-scheme: light;
`;

export const STYLE = `
:host {
  ${LIGHT}
  container-type: inline-size;
  display: block;
}
:host([dark]) {
  --ground: #14181e;
  --text: #ced6dd;
  --muted: #9ba7b4;
  --edge: #48566b;
  --grid: #2b323d;
  --accent: #4fc3d6;
  --chosen: #1d3a42;
  --first: #7cc0e8;
  --second: #f0975c;
  color-scheme: dark;
}
.explorer {
  display: grid;
  grid-template-columns: minmax(0, 1fr);
  gap: 0.8rem 1.2rem;
  max-width: 46rem;
  margin: 0.5rem 0;
  padding: 1rem;
  border: 1px solid var(--edge);
  border-radius: 0.5rem;
  background: var(--ground);
  color: var(--text);
  font-size: 0.9375rem;
  line-height: 1.4;
  text-align: left;
}
*, ::before, ::after { box-sizing: border-box; }
figure, fieldset, legend { margin: 0; padding: 0; border: 0; min-width: 0; }
canvas { display: block; image-rendering: pixelated; }
svg text { fill: var(--muted); font-size: 12px; }
[hidden], .hidden { display: none !important; }
:focus-visible, label:has(:focus-visible) { outline: 2px solid var(--accent); outline-offset: 2px; }

.first { --line: var(--first); }
.second { --line: var(--second); }
.line { stroke: var(--line); stroke-width: 1.8; fill: none; stroke-linejoin: round; }
.line.second { stroke-dasharray: 5 3; }
.swatch { width: 1.25rem; height: 0.625rem; margin-right: 0.35rem; }

.runs { display: grid; grid-template-columns: 1fr 1fr; gap: 0.2rem 1.2rem; }
.run { display: flex; align-items: center; gap: 0.8rem; min-width: 0; }
.run:first-child .legend { flex: 0 0 4.4rem; }
.run:has(+ .run[hidden]) { grid-column: 1 / -1; }
.runs > .muted { grid-column: 1 / -1; padding-left: 5.2rem; }
fieldset { position: relative; padding-left: 5.2rem; min-height: 2rem; }
legend { position: absolute; left: 0; top: 0.3rem; }
.legend { font-weight: 600; }
select, button {
  font: inherit;
  color: var(--text);
  background: var(--ground);
  border: 1px solid var(--edge);
  border-radius: 0.3rem;
  min-height: 2rem;
  padding: 0.15rem 0.5rem;
}
select { width: 100%; min-width: 0; text-overflow: ellipsis; }
.options { display: flex; flex-wrap: wrap; gap: 0.35rem; }
.options label {
  position: relative;
  padding: 0.2rem;
  border: 1px solid transparent;
  border-radius: 0.3rem;
  cursor: pointer;
  text-align: center;
}
.options input { position: absolute; inset: 0; margin: 0; opacity: 0; cursor: pointer; }
.options label:has(:checked) { border-color: var(--accent); background: var(--chosen); }
.options :focus-visible { outline: none; }
.options canvas { width: 2.5rem; height: 2.5rem; margin: auto; border-radius: 0.15rem; }
.image span { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.measure label { padding: 0.2rem 0.6rem; }
.measure .stretch { margin-left: auto; display: flex; align-items: center; gap: 0.35rem; }
.stretch input { position: static; opacity: 1; accent-color: var(--accent); }
.layer span { display: block; font-size: 0.8125rem; overflow-wrap: anywhere; max-width: 6rem; }

.pictures { display: grid; grid-template-columns: 3fr 4fr 4fr; gap: 0.8rem 1.2rem; }
.pictures figure { display: grid; grid-template-rows: subgrid; grid-row: span 2; gap: 0.3rem; }
.pictures figure > * { align-self: start; }
.pictures figcaption { display: grid; align-self: end; overflow-wrap: anywhere; }
strong { font-weight: 600; }
.frame { position: relative; border: 1px solid var(--edge); overflow: hidden; }
.frame canvas { width: 100%; height: auto; }
.map canvas { cursor: crosshair; }
.single canvas { height: 1.6rem; }
.lacking { padding: 0.5rem 0; }
.mark { position: absolute; outline: 2px solid #fff; box-shadow: 0 0 0 3px #000; pointer-events: none; }
.field { outline: 2px dashed #fff; outline-offset: -2px; box-shadow: inset 0 0 0 2px #000; }
.proximate { outline-color: #ffd34d; outline-offset: -1px; box-shadow: 0 0 0 2px #000; }
.numbers { display: flex; flex-direction: column; gap: 1.6rem; }
.numbers { grid-row: span 2; padding-top: 2.9rem; }
.compared .numbers { display: grid; grid-template-columns: 1fr 1fr; grid-column: 1 / -1; padding-top: 0; }
.keys { display: grid; gap: 0.1rem; margin-top: 0.5rem; }
.keys > span { display: flex; align-items: baseline; gap: 0.4rem; }
.key { flex: none; width: 0.9rem; height: 0.7rem; }
.key.field { outline: 2px dashed var(--text); outline-offset: -2px; box-shadow: none; }
.key.proximate { border: 2px solid #ffd34d; outline: 1px solid #000; box-shadow: none; }
.reading { display: flex; flex-wrap: wrap; align-items: center; gap: 0 0.6rem; }
.reading .swatch { margin: 0; }
.pictures:not(.compared) .swatch { display: none; }
.muted, .labels { color: var(--muted); font-size: 0.8125rem; }
.value { font-size: 1.25rem; font-weight: 600; }
.bar { position: relative; }
.bar canvas { width: 100%; height: 0.75rem; border-radius: 0.15rem; }
.pointer {
  position: absolute;
  top: -0.15rem;
  bottom: -0.15rem;
  width: 4px;
  margin-left: -2px;
  background: #fff;
  border: 1px solid #000;
  border-radius: 2px;
}
.compared .pointer { background: var(--line); border-color: #fff; outline: 1px solid #000; }
.labels { display: grid; grid-template-columns: 1fr auto 1fr; margin: 0.2rem 0 0.5rem; }
.labels :last-child { text-align: right; }
output, .epoch span, strong, .labels { font-variant-numeric: tabular-nums; }

.epoch { display: flex; flex-wrap: wrap; align-items: center; gap: 0.4rem 0.8rem; }
button { display: inline-flex; align-items: center; gap: 0.4rem; min-width: 5.4rem; cursor: pointer; }
button svg { width: 1rem; height: 1rem; fill: currentColor; }
button:hover, select:hover { border-color: var(--accent); }
.epoch > div { flex: 1 1 10rem; min-width: 0; }
input[type="range"] { display: block; width: 100%; height: 1rem; margin: 0.4rem 0 0; accent-color: var(--accent); }
.slider-marks { position: relative; height: 1.4rem; color: var(--muted); font-size: 0.75rem; }
.slider-marks > * { position: absolute; left: calc(0.5rem + var(--share) * (100% - 1rem)); transform: translateX(-50%); }
.slider-marks span { top: 0.25rem; }
.slider-marks span::before { content: ""; position: absolute; left: 50%; top: -0.15rem; height: 0.3rem; border-left: 1px solid; }
.slider-marks i { top: -0.05rem; border: 0.3rem solid transparent; border-top: 0; border-bottom: 0.45rem solid var(--line); }
.epoch > span { min-width: 11.5rem; }

.curves { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.8rem 1rem; }
.curve { align-self: end; }
.curve figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 0.5rem; }
.curve figcaption { font-size: 0.8125rem; font-weight: 600; margin-bottom: 0.3rem; }
.curve > svg { display: block; width: 100%; height: auto; }
.curve strong { color: var(--line); white-space: nowrap; }
.value-of + .value-of { margin-left: 0.5rem; }
.value-of .swatch { width: 0.9rem; margin-right: 0.2rem; }
.value-of:has(+ [hidden]) .swatch { display: none; }
.loss > svg, .entropy > svg { cursor: pointer; touch-action: pan-y; }
.curve.empty { display: none; }
.grid { stroke: var(--grid); }
.now { stroke: var(--muted); stroke-dasharray: 3 3; }
.moment line { stroke: var(--line); stroke-width: 1; }
.moment path { fill: var(--line); }
.moments { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: 0 0.8rem; }
svg.moment { width: 0.7rem; height: 0.7rem; margin-right: 0.3rem; }
.dot { fill: var(--line); stroke: var(--ground); stroke-width: 1.5; }
.area { fill: var(--line); fill-opacity: 0.55; }
.area.second { fill: none; stroke: var(--line); stroke-width: 1.5; }

@container (max-width: 30rem) {
  .runs { grid-template-columns: 1fr; }
  .runs > .muted { padding-left: 0; }
  .run .legend { flex: 0 0 4.4rem; }
  fieldset { padding-left: 0; padding-top: 1.7rem; }
  .explorer { padding: 0.6rem; gap: 0.5rem; }
  .pictures { grid-template-columns: 2fr 3fr; gap: 0.4rem 0.6rem; }
  .pictures.compared { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .pictures strong { font-size: 0.75rem; line-height: 1.2; }
  .pictures figcaption .swatch { width: 0.7rem; margin-right: 0.2rem; }
  .slider-marks { font-size: 0.6875rem; }
  .keys { font-size: 0.75rem; line-height: 1.2; margin-top: 0.2rem; }
  .numbers, .compared .numbers { grid-column: 1 / -1; grid-row: auto; padding-top: 0; gap: 0.6rem; }
  .compared .numbers { grid-template-columns: 1fr; }
  .reading { font-size: 0.8125rem; }
  .value { font-size: 1rem; }
  .epoch > span { flex-basis: 100%; }
  .curves { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.4rem 0.6rem; }
  .curve.channels { grid-column: 1 / -1; }
  .curve:not(.channels) text { font-size: 18px; }
  tspan { display: none; }
  .curve.channels text { font-size: 10px; }
  .image canvas { width: 2.25rem; height: 2.25rem; }
}
@container (min-width: 52rem) {
  .explorer { grid-template-columns: minmax(0, 1fr) 15rem; max-width: 64rem; }
  .explorer > * { grid-column: 1; }
  .explorer > .curves { grid-column: 2; grid-row: 1 / span 6; }
  .curves { grid-template-columns: 100%; align-content: space-between; gap: 0.4rem; }
  .moments { display: grid; }
}
@container (min-width: 52rem) {
  .explorer:has(> .curves[hidden]) { grid-template-columns: minmax(0, 1fr); max-width: 46rem; }
}
@media (forced-colors: active) {
  .options label:has(:checked) { outline: 3px solid Highlight; }
  .mark, .key, .pointer { forced-color-adjust: none; }
}
@media print {
  :host([dark]) { ${LIGHT} }
  .explorer { break-inside: avoid; }
  .epoch button { display: none; }
  canvas, .key, .pointer { print-color-adjust: exact; }
}
`;
