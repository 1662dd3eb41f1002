"""Formulas as MathML, converted while the site is built: browsers draw it themselves, without script or network."""

import html
import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

_MATHML = "http://www.w3.org/1998/Math/MathML"
_KNOWN = (  # what authors write, and the word for it that the converter knows, or sets better
    (r"\\dots", r"\\ldots"),
    (r"(?<!left)(?<!right)\\[lr]vert", "|"),
    (r"(?<!left)(?<!right)\\[lr]Vert", r"\\|"),
)
_ACCENTS = set("´ˉ¯˘ˇ˙¨`ˆ˚~→")  # what the converter writes for \acute, \bar, \breve, ...

_UPRIGHT = ("|", "‖", "{", "}")


def convert(latex: str, *, block: bool) -> str:
    """MathML of a formula; its paragraphs, as its lines, are rows that are aligned at `&`.

    Raises:
      ValueError: what the converter does not know, or braces that do not match.
    """
    bare = re.sub(r"\\[\\{}]", "", latex)
    for opening, closing in ((r"\{", r"\}"), (r"\\begin\b", r"\\end\b"), (r"\\left\b", r"\\right\b")):
        if len(re.findall(opening, bare)) != len(re.findall(closing, bare)):
            raise ValueError(f"{opening} and {closing} do not match")  # the converter would stop there, silently
    for written, known in _KNOWN:
        latex = re.sub(written + r"(?![a-zA-Z])", known, latex)
    if not latex.strip():
        raise ValueError("the formula is empty")
    rows = re.split(r"\n\s*\n", latex.strip())
    if block and (len(rows) > 1 or ("&" in latex and r"\begin" not in latex)):
        latex = r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"
    try:
        return _mended(tex2mathml(latex, as_block=block))
    except Exception as error:  # it raises MathError, and whatever its parser stumbles over
        raise ValueError(str(error)) from error


def _mended(mathml: str) -> str:
    """The same, set better.

    Fractions in aligned rows are large; an accented letter's index stands beside it, not underneath; bars and braces
    stand close and do not grow; primes are raised.
    """
    named = re.compile(r"&(?!amp;|lt;|gt;|quot;|apos;|#)\w+;")  # HTML knows more entities by name than XML
    text = named.sub(lambda found: html.unescape(found[0]), mathml.replace(f' xmlns="{_MATHML}"', "", 1))
    tree = ElementTree.fromstring(text)
    for node in tree.iter("mtable"):
        if node.get("class") == "ams-align":
            node.set("displaystyle", "true")
    for node in list(tree.iter("munderover")):
        letter, index, over = node
        if over.tag == "mo" and over.text in _ACCENTS:
            node.clear()
            node.tag = "msub"
            accented = ElementTree.SubElement(node, "mover", accent="true")
            accented.extend([letter, over])
            node.append(index)
    for parent in list(tree.iter()):
        parent[:] = _raised_primes(parent)
        for node in parent.findall("mo"):
            if node.text in _UPRIGHT and parent.tag != "mrow":  # an mrow is what \left and \right make
                node.set("stretchy", "false")
            if node.text in ("|", "‖"):
                node.attrib |= {"lspace": "0", "rspace": "0"}
    for node in tree.iter("msup"):
        if node[0].tag == "msub" and node[0][0].get("accent"):
            letter, index = node[0]
            node[:] = [letter, index, node[1]]
            node.tag = "msubsup"
    return ElementTree.tostring(tree, encoding="unicode", short_empty_elements=False)


def _raised_primes(row: Any) -> list[Any]:
    """The elements of a row, with f' as a power of f."""
    done: list[Any] = []
    for node in row:
        if node.tag == "mo" and node.text == "'" and done:
            if done[-1].tag != "msup" or not (done[-1][1].text or "").startswith("′"):
                power = ElementTree.Element("msup")
                power.append(done.pop())
                ElementTree.SubElement(power, "mo").text = ""
                done.append(power)
            done[-1][1].text += "′"
        else:
            done.append(node)
    return done


def visit_math(translator: Any, node: nodes.math) -> None:
    """A formula in a line of text."""
    translator.body.append(_converted(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """A formula in lines of its own, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    translator.body.append(_converted(node, block=True))
    if node.get("number"):
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _converted(node: Any, *, block: bool) -> str:
    latex = node.astext()
    try:
        return convert(latex, block=block)
    except ValueError as error:
        logger.warning("this formula cannot be converted to MathML: %s: %s", latex, error, location=node)
        return f"<code>{latex.replace('&', '&amp;').replace('<', '&lt;')}</code>"


def setup(app: Any) -> dict[str, Any]:
    """Registers the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
