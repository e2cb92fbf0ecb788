import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from rgbflow.decision import decide
from rgbflow.errors import InputError
from rgbflow.learn.comparison import Compared
from rgbflow.learn.metrics import UnknownFigures, confusion, deciding_stream, measure
from rgbflow.learn.report import MOST_WRONG_CLIPS, Example, Report, Why, render, write_report

DASH = "\N{EN DASH}"
VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """The text, the attributes and the balance of the tags of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.words, self.attributes, self.open_tags, self.tags = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        if self.open_tags[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def make_report(classes: int = 7, clips: int = 40, streams=("rgb", "flow")) -> Report:
    generator = np.random.default_rng(classes)
    labels = generator.permutation(np.arange(clips) % classes)
    logits = {stream: 1.5 * np.eye(classes)[labels] + generator.normal(size=(clips, classes)) for stream in streams}
    scores = {stream: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for stream, x in logits.items()}
    if len(streams) == 2:
        scores["fused"] = (scores["rgb"] + scores["flow"]) / 2
    return Report(
        title="A test",
        classes=tuple(f"class {k}" for k in range(classes)),
        names=[f"clip_{n}.mp4" for n in range(clips)],
        labels=labels,
        scores=scores,
        part="test",
        protocol="group",
        leak_percent=0.0,
        provenance={"command": "rgbflow evaluate --part <test>", "commit": "abc1234"},
    )


def make_example(width: int = 64, fill: int = 200) -> Example:
    frames = np.zeros((3, 48, width, 3), np.uint8)
    frames[..., 0] = fill  # red
    return Example("group/clip.mp4", "wave", frames, 255 - frames)


def make_why(rgb=(0.9, 0.1), flow=(0.2, 0.8), label="wave", name="group/clip.mp4") -> Why:
    scores = {"rgb": np.array(rgb), "flow": np.array(flow)}
    fused = (scores["rgb"] + scores["flow"]) / 2
    pictures = {"rgb": np.full((30, 40, 3), 200, np.uint8), "flow": np.full((30, 40, 3), 50, np.uint8)}
    return Why(name, label, fused.max(), decide(("wave", "raise"), fused, scores), pictures)


def curve_rows(count: int = 3) -> list[dict]:
    return [
        {"epoch": n, "train_loss": 2 / (n + 1), "val_loss": 2.5 / (n + 1), "val_top1": 20.0 * n} for n in range(count)
    ]


@pytest.mark.parametrize("streams", [("rgb", "flow"), ("rgb",), ("flow",)])
def test_the_page_holds_the_figures_of_metrics(streams):
    report = make_report(streams=streams)
    page = Page(render(report))
    for key, scores in report.scores.items():
        figures = measure(scores, report.labels)
        word = "fusion" if key == "fused" else key
        top1, top5 = f"{figures.top1:.1f}", f"{figures.top5:.1f}"
        intervals = (figures.top1_interval, figures.top5_interval)
        around1, around5 = (f"{low:.1f}{DASH}{high:.1f}" for low, high in intervals)
        assert f"{word} {top1} % top-1, 95 % interval {around1}" in page.text
        assert f"{word} {top1} {around1} {top5} {around5} {figures.mean_class_accuracy:.1f}" in page.text
    assert "40 test clips · 7 classes · protocol group · no group on both sides (leak 0 %)" in page.text


def test_the_headline_counts_and_compares():
    report = make_report(classes=2, clips=4)
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    rows = {"rgb": [right, right, wrong, wrong], "flow": [right, wrong, right, right]}
    scores = {key: np.array(values) for key, values in rows.items()} | {"fused": np.array([right] * 3 + [wrong])}
    page = Page(render(replace(report, labels=np.zeros(4, int), scores=scores)))
    sentence = "The fusion names 3 of 4 clips right: 25.0 points above rgb alone, as many as flow alone."
    assert sentence in page.text


def test_a_fusion_that_loses_is_said_to_lose():
    report = make_report(classes=2, clips=4)
    scores = {key: np.tile([1.0, 0.0], (4, 1)) for key in ("rgb", "flow")} | {"fused": np.tile([0.0, 1.0], (4, 1))}
    page = Page(render(replace(report, labels=np.zeros(4, int), scores=scores)))
    assert "names 0 of 4 clips right: 100.0 points below rgb alone, 100.0 points below flow alone." in page.text


def test_a_leak_is_warned_of_and_an_unknown_one_is_said():
    report = make_report()
    leaking = Page(render(replace(report, leak_percent=97.46, part="val"))).text
    assert "likely too good. 97.5 % of the validation clips share a group" in leaking
    for leak_percent in (0.0, None):
        assert "too good" not in Page(render(replace(report, leak_percent=leak_percent))).text
    assert "leak not known" in Page(render(replace(report, leak_percent=None))).text


@pytest.mark.parametrize("streams", [("rgb", "flow"), ("flow",)])
@pytest.mark.parametrize("classes", [2, 13, 101])
def test_the_page_needs_nothing_from_outside(classes, streams):
    report = make_report(classes, clips=2 * classes + 3, streams=streams)
    curves = {stream: curve_rows() for stream in streams}
    html = render(replace(report, curves=curves, examples=[make_example()]))
    page = Page(html)
    assert page.open_tags == []
    sources = page.values("src") + page.values("srcset")
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert page.values("href") == []
    assert "script" not in page.tags
    assert not re.search(r"@import|url\(|https?://", html)
    assert all(page.values("alt"))


def test_the_bars_are_the_shares_of_each_class():
    report = make_report(classes=5, clips=43)
    decided = deciding_stream(report.scores, report.labels)
    html = render(report)
    for k, name in enumerate(report.classes):
        bar = re.search(rf'<div class="bar"><span class="class" title="{name}">.*?</div>', html).group()
        widths = dict(re.findall(r'<i class="(\w+)" style="width:([\d.]+)%"', bar))
        total = np.sum(report.labels == k)
        right = 0
        for kind in ("both", "rgb", "flow", "fusion"):
            count = np.sum((report.labels == k) & (decided == kind))
            right += count
            assert float(widths.get(kind, 0)) == pytest.approx(100 * count / total, abs=0.005)
        assert f"{right}/{total}</span>" in bar


def test_one_stream_is_not_said_to_decide():
    text = Page(render(make_report(streams=("rgb",)))).text.replace("Confusion", "")
    assert "The rgb stream names" in text
    assert "decided" not in text
    assert "fusion" not in text
    assert "flow" not in text.replace("rgbflow", "")


def test_top5_is_left_out_where_it_says_nothing():
    text = Page(render(make_report(classes=5))).text
    assert "Top-5 says nothing" in text
    assert "100.0" not in text


@pytest.mark.parametrize("clips", [30, 200])
def test_wrong_clips_are_listed_the_surest_first(clips):
    report = make_report(clips=clips)
    fused = report.scores["fused"]
    answers = fused.argmax(axis=1)
    wrong = np.flatnonzero(answers != report.labels)
    listed = re.findall(r'<td class="clip">(.*?)</td>', render(report))
    expected = sorted(wrong, key=lambda n: -fused[n, answers[n]])[:MOST_WRONG_CLIPS]
    assert listed == [report.names[n] for n in expected]
    assert 0 < len(listed) <= MOST_WRONG_CLIPS


def test_a_wrong_clip_shows_what_each_stream_said():
    report = make_report(classes=2, clips=1)
    scores = {
        "rgb": np.array([[0.2, 0.8]]),
        "flow": np.array([[0.55, 0.45]]),
        "fused": np.array([[0.375, 0.625]]),
    }
    report = replace(report, classes=("wave", "raise"), labels=np.array([0]), scores=scores)
    html = render(report)
    assert "clip_0.mp4 wave raise 62 raise 80 wave 55" in Page(html).text
    assert '<td class="right">wave</td>' in html


def test_no_wrong_clips():
    report = make_report(classes=3, clips=9)
    perfect = dict.fromkeys(("rgb", "flow", "fused"), np.eye(3)[report.labels])
    text = Page(render(replace(report, scores=perfect))).text
    assert "None: every answer was right." in text
    assert "Most frequent mistakes" not in text


def test_frequent_mistakes_are_those_of_the_confusion_matrix():
    report = make_report(classes=6, clips=90)
    mistakes = confusion(report.scores["fused"], report.labels)
    np.fill_diagonal(mistakes, 0)
    shown = re.findall(r"<li>class (\d) → class (\d) <span>(\d+)</span></li>", render(report))
    assert len(shown) == 8
    assert [int(count) for *_, count in shown] == sorted(mistakes.ravel(), reverse=True)[:8]
    for truth, answer, count in shown:
        assert mistakes[int(truth), int(answer)] == int(count)


def decoded_svgs(html: str) -> list[str]:
    found = re.findall(r'"data:image/svg\+xml;base64,([^"]+)"', html)
    return [base64.b64decode(data).decode() for data in found]


def svg_words(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]


@pytest.mark.parametrize(("classes", "named", "counted"), [(12, True, True), (30, True, False), (31, False, False)])
def test_confusion_matrices_are_named_and_counted_while_legible(classes, named, counted):
    report = make_report(classes, clips=3 * classes)
    dark, light = decoded_svgs(render(report))
    assert dark != light
    words = svg_words(light)
    assert words.count("fusion") == words.count("rgb") == words.count("flow") == 1
    assert words.count("class 1") == (4 if named else 0)  # the rows once, the columns of each matrix
    numbers = sorted(int(word) for word in words if word.isdigit())
    matrices = [confusion(report.scores[key], report.labels).ravel() for key in report.scores]
    expected = sorted(int(count) for count in np.concatenate(matrices) if count)
    assert numbers == (expected if counted else [])


def test_names_are_escaped_everywhere():
    report = make_report(classes=3, clips=12)
    hostile = ('<img src="http://example.invalid/x.png">', "a & b", "$x_1$ ü")
    report = replace(
        report,
        title="<script>alert(1)</script>",
        protocol="<b>",
        classes=hostile,
        names=[f'"{n}"<i>' for n in range(12)],
        provenance={"<u>": "</dl>"},
        examples=[replace(make_example(), label="<h1>", name="'><a href='https://example.invalid'>")],
        whys=[make_why(label="<h1>", name="<a href='https://example.invalid'>")],
    )
    page = Page(render(report))
    assert page.open_tags == []
    assert "script" not in page.tags
    assert "a" not in page.tags
    assert all(source.startswith("data:") for source in page.values("src"))
    for text in (*hostile, "<script>alert(1)</script>", "</dl>", "<u>"):
        assert text in page.text
    assert "$x_1$ ü" in svg_words(decoded_svgs(render(report))[0])


def test_letters_the_figure_font_lacks_give_no_warning():
    report = replace(make_report(classes=2), classes=("右手を上げる", "\udcff" + "x" * 300))
    words = svg_words(decoded_svgs(render(report))[0])
    assert "右手を上げる" in words
    assert max(map(len, words)) <= 22


def test_sections_without_content_are_left_out():
    report = make_report()
    bare = Page(render(replace(report, provenance={}))).text
    for heading in ("Training", "Frames and their flow", "Why", "Origin of the figures"):
        assert heading not in bare
    empty = {"rgb": [], "flow": [{"epoch": 0, "train_loss": None}]}
    assert "Training" not in Page(render(replace(report, curves=empty))).text


def test_curves_show_the_streams_that_have_values_and_skip_missing_ones():
    rows = [
        {"epoch": 0, "train_loss": 2.0},
        {"epoch": 1, "train_loss": None, "val_loss": 1.5, "val_top1": None},
    ]
    html = render(replace(make_report(), curves={"rgb": rows, "flow": []}))
    words = svg_words(decoded_svgs(html)[1])
    assert "rgb: loss" in words
    assert "training" in words
    assert "flow: loss" not in words
    assert "Training" in Page(html).text


def test_examples_show_the_pictures_given():
    example = make_example(width=800)
    html = render(replace(make_report(), examples=[example]))
    jpegs = re.findall(r'"data:image/jpeg;base64,([^"]+)"', html)
    assert len(jpegs) == 6  # three frames, three flow pictures
    for data, expected in zip(jpegs, [*example.frames, *example.flow_pictures], strict=True):
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert shown.shape[1] == 360
        np.testing.assert_allclose(shown.mean(axis=(0, 1)), expected.mean(axis=(0, 1)), atol=3)


def test_a_small_picture_is_not_enlarged():
    html = render(replace(make_report(), examples=[make_example(width=64)]))
    data = re.search(r'"data:image/jpeg;base64,([^"]+)"', html).group(1)
    assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR).shape == (
        48,
        64,
        3,
    )


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (make_why(), "rgb wave 90 % flow raise 80 % wave 55 % · rgb decided group/clip.mp4"),
        (make_why(flow=(0.7, 0.3)), "rgb wave 90 % flow wave 70 % wave 80 % · both streams say so group/clip.mp4"),
        (
            make_why(rgb=(0.1, 0.9)),
            "rgb raise 90 % flow raise 80 % raise 85 % · both streams say so; the truth is wave group/clip.mp4",
        ),
    ],
)
def test_why_shows_what_each_stream_looked_at_and_said(why, words):
    html = render(replace(make_report(), whys=[why]))
    assert words in Page(html).text
    assert html.count('alt="what rgb looked at"') == html.count('alt="what flow looked at"') == 1
    assert len(re.findall('<span class="right">', html)) == sum(
        voice.label == "wave" for voice in why.decision.voices.values()
    )


def test_why_no_clip_can_be_explained_is_said():
    assert "Why No class activation maps: tokens <b>." in Page(render(replace(make_report(), whys="tokens <b>"))).text


def test_writing_twice_gives_the_same_bytes_and_leaves_one_file(tmp_path):
    report = replace(make_report(), curves={"rgb": curve_rows(), "flow": curve_rows()}, examples=[make_example()])
    path = write_report(tmp_path / "new" / "report.html", report)
    first = path.read_bytes()
    assert write_report(path, report).read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert first.decode() == render(report)


def test_a_name_that_is_no_text_does_not_cost_the_report(tmp_path):
    report = make_report(clips=30)
    path = write_report(tmp_path / "report.html", replace(report, names=[f"clip_{n}\udcff.mp4" for n in range(30)]))
    assert r"\xff.mp4" in path.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_gives_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write_report(tmp_path / "file" / "report.html", make_report())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"part": "train"}, "'test' or 'val'"),
        ({"names": ["one"]}, "1 names"),
        ({"scores": {}}, "must be rgb, or flow"),
        ({"scores": {"rgb": np.zeros((40, 7)), "flow": np.zeros((40, 7))}}, "fused"),
    ],
)
def test_a_report_that_does_not_fit_together(change, rule):
    with pytest.raises(ValueError, match=rule):
        replace(make_report(), **change)


def test_calibration_and_the_fusions_are_told_where_they_were_measured():
    assert "alibration" not in Page(render(make_report())).text
    report = replace(make_report(), calibration_errors=(12.34, 3.21))
    text = Page(render(report)).text
    assert "Expected calibration error 3.2 %" in text
    assert "The plain average has 12.3 %" in text
    assert "stacking" not in text
    rows = [
        Compared("average", 40, 70.0, (55.0, 81.0), 3.2),
        Compared("stacking", 40, 75.0, (60.0, 85.0), 4.5, 5.0, (-2.5, 12.5)),
    ]
    text = Page(render(replace(report, comparison=rows))).text
    assert f"stacking 75.0 60.0{DASH}85.0 +5.0 -2.5{DASH}12.5 4.5" in text


def test_unknown_classes_are_reported_with_what_was_promised():
    figures = UnknownFigures(40, 20, 88.0, (78.0, 94.0))
    text = Page(render(replace(make_report(), unknown=figures))).text
    assert "20 clips of classes that were left out of training, against 40 of the classes above" in text
    assert f"an area under the ROC curve of 88.0 % (78.0{DASH}94.0)" in text
    assert "promised" not in text
    figures = replace(
        figures,
        promised=5.0,
        false_alarms=10.0,
        false_alarms_interval=(2.8, 30.1),
        rejected=25.0,
        rejected_interval=(14.2, 40.2),
    )
    text = Page(render(replace(make_report(), unknown=figures))).text
    assert f"10.0 % of them (2.8{DASH}30.1) get a known label nevertheless; at most 5 % was promised." in text
    assert f"25.0 % (14.2{DASH}40.2) of the known clips are labelled unknown." in text
    text = Page(render(replace(make_report(), unknown=replace(figures, promised=None)))).text
    assert "get a known label nevertheless; nothing was promised." in text
