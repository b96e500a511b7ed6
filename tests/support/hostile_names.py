"""Names that mean harm to what shows them: mathematics, markup, terminals, files, layouts."""

from __future__ import annotations

LENGTH = 100_000  # characters of the long names

MATHEMATICS = (
    "$\\frac{$",
    "$_$",
    "$$",
    "$",
    "conv$1$",
    "$\\alpha$",
    "\\$",
    "a\\$b$c$",
    "$\\frac{x}{y}$ $x_1^2$",
    "$\\unknown{$ \\",
    "_under_ ^over^ {braces}",
    "\\frac{1}{2}",
    "%s %(name)s {0} {name}",
    "\\u2264 \\n \\x1b",
)
MARKUP = (
    "a|b<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&amp;&lt;b&gt;",
    "<!-- end of table -->",
    "*bold* _it_ `code` ~~no~~ [a](javascript:alert(1)) ![i](x)",
    "# heading",
    "]]><svg/onload=alert(1)>",
    "\"'><b>",
)
TERMINAL = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "back\b\b\bspace",
    "over\rwritten",
    "bell\a",
    "del\x7f",
    "zero\0byte",
    "two\nlines\r\nand a third",
    "tab\tand\vvertical\fform",
    "line\u2028separator\u2029s\x85next",
)
UNICODE = (
    "\udcff\ud800 surrogate",
    "right \u202eto left\u202c \u2066isolate\u2069 \u200f\u200b",
    "\ufeffmark \ufffe\uffff none",
    "層 \U0001f9e8\U0001f468\u200d\U0001f469",
    "Z\u0351\u0348\u0306algo\u0300\u0301\u0302",
    "\N{ARABIC LETTER ALEF}\N{HEBREW LETTER ALEF}",
    "\ue000 private \U000e0041 tag",
)
FORMULAS = ("=cmd|'/c calc'!A1", "+1+1", "-2-3", "@SUM(A1)", 'quote"d,;\t')
ODD = (
    " spaces ",
    "",
    ".",
    "..",
    "a.b.c",
    "0",
    "-1",
    "nan",
    "None",
    "all",
    "../../c:\\windows",
    "--option",
    "_hidden",
)
# Every name of ordinary length; each is one that some layer, network, data set or fact may have.
NAMES = (*MATHEMATICS, *MARKUP, *TERMINAL, *UNICODE, *FORMULAS, *ODD)
# One word; words; and one whose end tells it from others.
LONG = ("x" * LENGTH, "word. And " * (LENGTH // 10), "$" * (LENGTH - 1) + "y")
