"""An explorer as HTML that needs no other file: a still picture, and the scripts that replace it."""

import hashlib
import html
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsity_lib.explorer.still import Still

FOLDER = Path(__file__).parent
FILES = ("style.js", "dom.js", "data.js", "paint.js", "charts.js")
EXPLORER = ("choices.js", "channels.js", "pictures.js", "curves.js", "explorer.js")

SENTENCE = (
    "A still picture. Where scripts run, this is an explorer of every network, layer, image and saved epoch, "
    "with the entropy at each position."
)

# The book's dark theme puts HTML outputs on a light ground with a margin.
_STYLE = """\
.text_html:has(> .sparsity-explorer) { background: none !important; padding: 0 !important; }
.sparsity-explorer { margin-bottom: 1rem; }
.sparsity-explorer > figure { margin: 0; }
.sparsity-explorer img { max-width: 100%; }"""


def module(own: Sequence[str] = EXPLORER) -> str:
    """An ES module of FILES and `own` as one, since a Blob cannot import a second file.

    It exports its default alone: anywidget would take a `render` of that name for all there is.
    """
    source = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in (*FILES, *own))
    source = re.sub(r'^import .* from "\./\w+\.js";\n', "", source, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", source, flags=re.MULTILINE)


def page(state: dict[str, Any], still: Still, sentence: str = SENTENCE, own: Sequence[str] = EXPLORER) -> str:
    """The HTML of an explorer: `state` is what its module's model holds, `still` is seen without scripts.

    `sentence` describes the page with scripts, and `own` are the files of its module. Equal arguments
    give equal text; the element's id is a hash of state and module.
    """
    # "<" would let a label close the script
    data = json.dumps({"state": state, "module": module(own)}, sort_keys=True, allow_nan=False).replace(
        "<", "\\u003c"
    )
    name = f"explorer-{hashlib.sha256(data.encode()).hexdigest()[:16]}"
    picture = b64encode(still.png).decode("ascii")
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    return f"""\
<style>
{_STYLE}
</style>
<div class="sparsity-explorer" id="{name}">
<figure>
<img alt="{html.escape(still.described)}" src="data:image/png;base64,{picture}">
<figcaption>{sentence}</figcaption>
</figure>
<script type="application/json">{data}</script>
<script type="module">
const name = "{name}";
{script}</script>
</div>
"""
