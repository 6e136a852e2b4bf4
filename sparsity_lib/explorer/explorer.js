/** The explorer: `render` draws a model's state into an element and keeps the two alike. */

import { choicesOf } from "./choices.js";
import { colourTable, decode, shown } from "./data.js";
import { followTheme, html } from "./dom.js";
import { STYLE } from "./style.js";
