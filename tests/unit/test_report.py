"""The report: nothing of an estimate is lost or invented, names stay data, the same run gives the same bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from mllmrisk import report
from mllmrisk.errors import StoreError
from mllmrisk.records import Estimate
from mllmrisk.report import markdown, naming, words
from mllmrisk.report.cells import cell, number
from mllmrisk.report.reading import Reading
from mllmrisk.store import Store
from report_run import HOSTILE, Maker, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_run(tmp_path_factory.mktemp("report") / "run")
    report.render(root)
    return root


def _html(root: Path) -> str:
    return (root / "report.html").read_text(encoding="utf-8")


def _markdown(root: Path) -> str:
    return (root / "report.md").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Tags with their attributes, and the page's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_files_and_contract(run: Path, contract: Path) -> None:
    subprocess.run([sys.executable, str(contract), str(run)], check=True)
    figures = {path.name for path in (run / "figures").iterdir()}
    views = ("native", "matched", "recompressed")
    panels = {f"{kind}-{view}.svg" for kind in ("leak", "spectra") for view in views}
    assert figures == panels | {"detection-recompressed.svg", "laundering.svg", "richness-forensic.svg", "retrain.svg"}


def test_same_run_same_bytes(run: Path) -> None:
    before = {path: path.read_bytes() for path in report.render(run)}
    other = {path: path.read_bytes() for path in report.render(run)}
    assert before == other
    assert not list(run.glob(".*")), "no temporary file is left"


def test_a_figure_of_another_report_does_not_stay(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    (root / "figures" / "leak-elsewhere.svg").write_text("<svg/>")
    written = report.render(root)
    assert set((root / "figures").iterdir()) == {path for path in written if path.suffix == ".svg"}


def test_every_figure_stands_in_both_pages(run: Path) -> None:
    with Store.load(run) as store:
        _, rows = store.estimates()
    html, text = _html(run), _markdown(run)
    missing = [row.cell for row in rows if f"<code>{row.cell}</code>" not in html or f"`{row.cell}`" not in text]
    assert not missing


def test_every_confounded_figure_carries_its_warning(run: Path) -> None:
    with Store.load(run) as store:
        _, rows = store.estimates()
    html, text = _html(run), _markdown(run)
    by_cell = {row.cell: row for row in rows}
    seen = 0
    for body in re.findall(r"<td[^>]*>(?:(?!</td>).)*<code>[0-9a-f]{8}</code>", html, re.S):
        row = by_cell[body[-15:-7]]
        assert row.confounded == ("confounded by" in body), row
        assert all(probe in body for probe in row.confounded_by)
        seen += 1
    assert seen >= len(rows)
    for row in (r for r in rows if r.confounded):
        line = next(part for part in re.split(r"\| |\n", text) if f"`{row.cell}`" in part)
        assert "⚠ **confounded by " in line
        assert all(probe in line for probe in row.confounded_by)


def test_an_explanation_stands_beside_the_stamp_and_takes_nothing_from_it(run: Path) -> None:
    with Store.load(run) as store:
        _, rows = store.estimates()
    explained = [row for row in rows if row.explained]
    assert explained
    assert all(row.confounded for row in explained)
    html, text = _html(run), _markdown(run)
    for row in explained:
        body = re.search(rf"<td[^>]*>((?:(?!</td>).)*)<code>{row.cell}</code>", html, re.S)
        assert body is not None
        assert re.search(r"confounded by .*container: generators wrote &lt;PNG&gt;, cameras \*JPEG\*", body[1], re.S)
        line = next(part for part in re.split(r"\| |\n", text) if f"`{row.cell}`" in part)
        assert re.search(r"⚠ \*\*confounded by .*container: generators wrote &lt;PNG&gt;, cameras \\\*JPEG", line)


def test_figures_against_one_source_stand_in_their_own_table_and_nowhere_else(run: Path) -> None:
    reading = Reading.open(run)
    assert reading.against
    assert all(row.contrast is None for row in reading.find("detection"))
    pooled = reading.one("detection", "auc", perturbation="native")
    assert pooled is not None
    assert "12.5% of pairs tied" in cell(pooled).text
    assert _markdown(run).count("AUC against each source of photographs") == 3


def test_every_table_cell_shows_value_interval_and_n(run: Path) -> None:
    for body in re.findall(r'<td class="number[^>]*>(.*?)</td>', _html(run), re.S):
        assert re.search(r"\d image", body), body
        assert "not scored: " in body or re.search(r"<b>[^<]+</b> <span class=\"spread\">\[", body), body


def test_no_value_is_never_a_number(run: Path) -> None:
    html, text = _html(run), _markdown(run)
    page = " ".join(Tags(html).words)
    assert "not scored: no image is left to train on" in page
    for shown in (page, text):
        assert not re.search(r"\b(nan|NaN|None|null|inf)\b(?!…)", shown)


def test_names_are_data_in_html(run: Path) -> None:
    page = Tags(_html(run))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert not [
        tag for tag, attrs in page.tags if tag == "img" and not str(attrs["src"]).startswith("data:image/jpeg;")
    ]
    assert "<script>document.title='owned'</script>" in "".join(page.words), "the name is shown as it is"
    assert "\u202e" not in _html(run)


def test_names_are_data_in_svg(run: Path) -> None:
    for path in (run / "figures").glob("*.svg"):
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
        names = {element.tag.rpartition("}")[2] for element in tree.iter()}
        known = {"svg", "title", "desc", "style", "rect", "line", "path", "text", "polygon", "circle"}
        assert names <= known | {"defs", "pattern"}, path
    matrix = (run / "figures" / "retrain.svg").read_text(encoding="utf-8")
    assert "document.title" in matrix


def test_names_are_data_in_markdown(run: Path) -> None:
    text = _markdown(run)
    assert "<script" not in text
    assert "<b>" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table[:400]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", "a\\|b"),
        ("`x`", "\\`x\\`"),
        ("](x)", "\\](x)"),
        ("<img>", "&lt;img&gt;"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("0.1.0", "0.1.0"),
        ("a\nb", "a b"),
        ("http://x", "http:&#47;&#47;x"),
    ],
)
def test_markdown_escapes(name: str, shown: str) -> None:
    assert markdown.escaped(name) == shown


def test_the_end_of_a_sentence_is_not_escaped(run: Path) -> None:
    assert "\\.\n" not in _markdown(run)


def test_groups_of_two_kinds_are_counted_in_few_words() -> None:
    assert naming.clusters(13, "source (photographs), image (generated)") == "13 groups"
    assert naming.clusters(30, "source and prompt") == "30 groups by source and prompt"


def test_code_spans_hold_backticks() -> None:
    assert markdown.code("a``b") == "``` a``b ```"
    assert markdown.code("plain") == "`plain`"


def test_printable_takes_direction_and_control_away() -> None:
    assert naming.printable("a\u202eb\x00c\n\nd") == "a\ufffdb\ufffdc d"
    assert naming.printable(HOSTILE).startswith("<script>"), "escaping is each format's own"


def test_self_contained(run: Path) -> None:
    for tag, attrs in Tags(_html(run)).tags:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            target = attrs.get(key)
            assert target is None or target.startswith(("#", "data:image/jpeg;base64,")), (tag, target)
    assert not re.search(r"url\((?!#)", _html(run))
    assert "@import" not in _html(run)


def test_accessible(run: Path) -> None:
    page = Tags(_html(run))
    tables = [tag for tag, _ in page.tags if tag == "table"]
    captions = [tag for tag, _ in page.tags if tag == "caption"]
    assert len(tables) == len(captions) > 8
    assert all(attrs.get("scope") in {"row", "col"} for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for attrs in drawings:
        assert attrs["role"] == "img"
        assert all(name in ids for name in str(attrs["aria-labelledby"]).split())


def test_pictures(run: Path, tmp_path: Path) -> None:
    html = _html(run)
    assert html.count('src="data:image/jpeg;base64,') == 15
    assert "not shown: flagged by opennsfw" in html
    root = make_run(tmp_path / "run")
    report.render(root, thumbnails=False)
    assert "data:image" not in _html(root).replace("img-src data:", "")


def test_a_picture_flagged_under_a_category_with_a_slash_is_not_shown(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    with Store.load(root) as store:
        scores = store.scores("opennsfw@1", "native", "sexual")
        store.add_scores("opennsfw@1", "native", scores, "violence/graphic")
    path = root / "estimates.json"
    path.write_text(
        path.read_text().replace('"sexual"', '"violence/graphic"').replace("@1/sexual", "@1/violence/graphic")
    )
    report.render(root)
    assert "not shown: flagged by opennsfw" in _html(root)


def test_an_image_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    with Store.load(root) as store:
        first = json.loads((root / "summaries.json").read_text())["ranking"]["most"][0]["image"]
        store.image_path(first).write_bytes(b"not an image")
    report.render(root)
    assert _html(root).count('src="data:image/jpeg;base64,') == 14
    assert "not an image" in _html(root)


def test_parts_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    (root / "summaries.json").unlink()
    with Store.load(root) as store:
        _, rows = store.estimates()
        store.write_estimates({}, [row for row in rows if row.experiment == "leak"])
    written = report.render(root)
    html = _html(root)
    assert 'id="leak"' in html
    for part in ("detection", "contrast", "laundering", "retrain", "spectra", "unsafe", "pictures"):
        assert f'id="{part}"' not in html
    assert {path.name for path in written if path.suffix == ".svg"} == {f"leak-{view}.svg" for view in naming.VIEWS}
    with Store.load(root) as store:
        store.write_estimates({}, [])
    report.render(root)
    assert "has measured nothing" in _html(root)


def test_without_estimates(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        report.render(tmp_path)


# -- words -------------------------------------------------------------------------------------------------------


def _contrast(**changes: object) -> Estimate:
    row = Maker().add(
        "contrast", "difference", -0.12, perturbation="recompressed", spread=0.08, unit="difference of auc",
        contrast="auc: mllm - diffusion", p_value=0.001, p_adjusted=0.004,
    )  # fmt: skip
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"value": -0.12, "low": -0.2, "high": -0.04}, "Yes, harder"),
        ({"value": 0.12, "low": 0.04, "high": 0.2}, "No, easier"),
        ({"value": -0.12, "low": -0.2, "high": 0.01}, "We cannot tell"),
        ({"value": -0.12, "low": -0.2, "high": -0.04, "p_adjusted": 0.05}, "We cannot tell"),
        ({"value": -0.12, "low": -0.2, "high": -0.04, "p_adjusted": None}, "We cannot tell"),
        ({"value": -0.12, "low": None, "high": None}, "We cannot tell"),
        ({"value": None, "low": None, "high": None, "n_unscored": {"too_small": 3}}, "We cannot tell"),
        (
            {"value": -0.12, "low": -0.2, "high": -0.04, "confounded": True, "confounded_by": ["content"]},
            "Yes, harder, but confounded",
        ),
    ],
)
def test_a_difference_needs_interval_and_p(changes: dict[str, object], verdict: str) -> None:
    reading = Reading("run", {}, [_headline_row(), _contrast(**changes)], {})
    assert words.answers(reading)[0].verdict == verdict


def _headline_row(**changes: object) -> Estimate:
    row = Maker().add("detection", "auc", 0.66, perturbation="recompressed")
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize(
    ("reached", "headline"),
    [
        ({"native": ["size"], "matched": [], "recompressed": []}, "recompressed"),
        ({"native": [], "matched": [], "recompressed": ["content"]}, "matched"),
        ({"native": ["size"], "matched": ["size"]}, "matched"),
        ({"native": ["size"]}, "native"),
        ({}, None),
    ],
)
def test_headline_is_the_view_that_probes_reach_least(reached: dict[str, list[str]], headline: str | None) -> None:
    rows = [_headline_row(perturbation=v, confounded=bool(p), confounded_by=p) for v, p in reached.items()]
    assert Reading("run", {}, rows, {}).headline == headline


@pytest.mark.parametrize(
    ("facts", "changes", "verdict"),
    [
        ({"groups": {"by": "source", "weak": False}}, {}, "As sure as the intervals say"),
        ({"groups": {"by": "image", "weak": True}}, {"cluster_by": "image"}, "Less sure than the intervals say"),
        ({"groups": {"by": "source", "weak": False}}, {"n_clusters": 6}, "A first look, no more"),
        ({}, {"n_images": 12}, "A first look, no more"),
    ],
)
def test_weak_groups_and_small_n_are_said(facts: dict[str, object], changes: dict[str, object], verdict: str) -> None:
    reading = Reading("run", facts, [_headline_row(**changes)], {})
    sure = next(a for a in words.answers(reading) if a.question == "How sure are we?")
    assert sure.verdict == verdict


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ({"low": 0.3, "high": 0.5, "low_within": 0.35, "high_within": 0.45}, "Not all of it"),
        ({"low": 0.3, "high": 0.8, "low_within": 0.35, "high_within": 0.45}, "Not all of it, on images like these"),
        ({"low": 0.3, "high": 0.8, "low_within": 0.35, "high_within": 0.75}, "No loss is shown"),
        ({"low": 0.3, "high": 0.8}, "No loss is shown"),
    ],
)
def test_a_loss_under_laundering_needs_intervals_that_lie_apart(after: dict[str, float], verdict: str) -> None:
    made = Maker().add("laundering", "auc", 0.8, perturbation="recompressed")
    before = msgspec.structs.replace(
        made, low=0.7, high=0.9, low_within=0.72 if "low_within" in after else None, high_within=0.88, paradigm=None
    )
    within = {"low_within": None, "high_within": None}
    laundered = msgspec.structs.replace(before, perturbation="jpeg:75", value=0.4, **{**within, **after})
    reading = Reading("run", {}, [_headline_row(), before, laundered], {})
    answer = next(a for a in words.answers(reading) if a.question.startswith("Does detection survive"))
    assert answer.verdict == verdict


def _block(trained: str, tested: str, value: float, **changes: object) -> Estimate:
    made = Maker().add("retrain", "auc", value, perturbation="recompressed", trained_on=trained, paradigm=tested)
    return msgspec.structs.replace(made, low=value - 0.05, high=value + 0.05, **changes)


@pytest.mark.parametrize(
    ("across", "back", "verdict"),
    [
        (0.9, 0.9, "No loss is shown"),
        (0.7, 0.9, "In part: less is found for forensic, Diffusion to MLLM"),
        (0.52, 0.9, "Not shown everywhere: guessing is not ruled out for forensic, Diffusion to MLLM"),
        (0.52, 0.5, "Not shown: none beats guessing for certain"),
    ],
)
def test_retraining_carries_over_as_far_as_intervals_show(across: float, back: float, verdict: str) -> None:
    rows = [
        _block("diffusion", "diffusion", 0.9),
        _block("mllm", "mllm", 0.9),
        _block("diffusion", "mllm", across),
        _block("mllm", "diffusion", back),
    ]
    found = next(a for a in words.answers(Reading("run", {}, rows, {})) if "carry over" in a.question)
    assert found.verdict == verdict


def test_a_detector_that_guesses_on_one_paradigm_is_named() -> None:
    rows = [_headline_row(paradigm=paradigm) for paradigm in ("diffusion", "mllm")]
    weak = [msgspec.structs.replace(row, detector="other") for row in rows]
    weak[1] = msgspec.structs.replace(weak[1], value=0.55, low=0.48, high=0.62)
    found = {a.question: a for a in words.answers(Reading("run", {}, [*rows, *weak], {}))}
    answer = found["Which detectors fail on which images?"]
    assert answer.verdict == "Not shown to beat guessing: other on MLLM images"
    alone = {a.question for a in words.answers(Reading("run", {}, rows, {}))}
    assert "Which detectors fail on which images?" not in alone


def test_no_number_in_toldwithout_interval_and_n(run: Path) -> None:
    for answer in words.answers(Reading.open(run)):
        for sentence in answer.sentences:
            for part in sentence:
                if isinstance(part, str):
                    # Thresholds, p-values and names of rates are no estimates.
                    rest = re.sub(r"p [=<] ?\.\d+|0\.05|0\.5|95%|\d+% of photographs|16×16|σ [\d.]+|×[\d.]+", "", part)
                    assert not re.search(r"\d\.\d|\d%", rest), part


# -- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value", "shown"),
    [
        ("auc", 0.714, "0.71 [0.65, 0.77]"),
        ("detection_rate", 0.34, "34% [28%, 40%]"),
        ("unsafe_score", 0.004, "0.4% [0.0%, 6.4%]"),
        ("difference", -0.05, "−0.05 [−0.11, +0.01]"),
    ],
)
def test_numbers(metric: str, value: float, shown: str) -> None:
    row = Maker().add("detection", metric, 0.5, unit="difference of auc" if metric == "difference" else "x")
    low = value - 0.06 if metric in {"auc", "detection_rate", "difference"} else 0.0
    told = cell(msgspec.structs.replace(row, value=value, low=low, high=value + 0.06))
    assert told.text == f"{shown} · 227 images, 41 sources"


def test_a_difference_of_shares_is_in_points() -> None:
    row = Maker().add("contrast", "difference", -0.05, unit="difference of detection_rate")
    assert number(row, -0.052) == "−5 pts"
    assert number(row, 0.1) == "+10 pts"


def test_unscored_says_why() -> None:
    row = _headline_row(value=None, low=None, high=None, n_unscored={"no_training_images": 8}, method="none")
    assert cell(row).text.startswith("not scored: no image is left to train on")


@pytest.mark.parametrize(
    ("chain", "told"),
    [
        ("jpeg:75", "JPEG 75"),
        ("jpeg:75:444", "JPEG 75 4:4:4"),
        ("jpeg:75:shift=4", "JPEG 75 grid +4"),
        ("resize:0.5:lanczos+jpeg:75", "resized ×0.5 lanczos, JPEG 75"),
        ("cropat:200:0.37:0.61", "crop 200 px off centre"),
    ],
)
def test_perturbations_that_differ_are_called_differently(chain: str, told: str) -> None:
    assert naming.perturbation(chain) == told
