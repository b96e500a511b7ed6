"""Alt text: what a picture shows, for people who do not see it and for programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from pruneviz.console.shown_text import short

_LONGEST = 20_000  # characters
_START = re.compile(r"<svg\b[^>]*>", re.DOTALL)


@dataclass(frozen=True)
class AltText:
    """What a picture shows, in words.

    Attributes:
        title: One line, such as "Figure 3. theta_hg against theta_g of every filter of ResNet-56.".
        text: What is drawn, and the main numbers in it.
        keywords: Kind of picture, networks and data sets.
    """

    title: str
    text: str
    keywords: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, str]:
        """Title and text in characters that any file holds and any program shows."""
        return short(self.title, _LONGEST), short(self.text, _LONGEST)

    def metadata(self, ending: str) -> Mapping[str, str]:
        """The words as metadata of a picture format, under the names that matplotlib knows.

        Args:
            ending: "pdf", "png" or "svg".
        """
        title, text = self.shown
        keywords = ", ".join(map(short, self.keywords))
        if ending == "pdf":
            return {"Title": title, "Subject": text, "Keywords": keywords}
        if ending == "png":
            return {"Title": title, "Description": text, "Keywords": keywords}
        return {}


def described(svg: str, alt: AltText, name: str) -> str:
    """An SVG whose root is an image with an accessible name and description.

    Screen readers read `<title>` and `<desc>` where these are the first children of the root, which
    names them by `aria-labelledby` and `aria-describedby`.

    Args:
        svg: The file's text.
        alt: The words.
        name: Start of the identifiers; unique among pictures on one page.
    """
    title, text = (quoteattr(f"{name}-{part}") for part in ("title", "desc"))
    shown = alt.shown

    def with_words(start: re.Match[str]) -> str:
        root = f'{start[0][:-1]} role="img" aria-labelledby={title} aria-describedby={text}>'
        words = (
            f"<title id={title}>{escape(shown[0])}</title>\n"
            f" <desc id={text}>{escape(shown[1])}</desc>"
        )
        return f"{root}\n {words}"

    return _START.sub(with_words, svg, count=1)
