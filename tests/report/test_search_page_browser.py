"""The page of a search in a real browser, opened from a file, without a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from t2tbuild.nas import SearchResult
from t2tbuild.spec.load import check_text
from t2tbuild.spec.units import short_count
from tests.report.browser import CHROMIUM, chromium, hover
from tests.report.searches import large_search, training

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return large_search(tmp_path_factory.mktemp("page"), 20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, result: SearchResult) -> Iterator[Page]:
    with opening(context, result.run) as opened:
        yield opened


@contextmanager
def opening(context: BrowserContext, run: Path) -> Iterator[Page]:
    """Open the page of a run; afterwards check that there were no errors and no network requests."""
    opened, errors, requests = context.new_page(), [], []
    opened.on("console", lambda message: errors.append(message.text))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address(run))
    yield opened
    assert errors == []
    assert requests == [address(run)]


def address(run: Path) -> str:
    return (run / "report.html").as_uri()


def a_candidate(result: SearchResult) -> Any:
    """Return a candidate that reached the highest rung and is not the winner."""
    return next(one for one in result.records if one.state == "completed" and one.number != result.winner.number)


def mark_of(page: Page, result: SearchResult, number: str) -> Any:
    index = [record.number for record in result.records].index(number)
    return page.locator(f"#pareto [data-entry='{index}']")


def test_every_figure_is_drawn_and_the_winner_is_shown(page: Page, result: SearchResult) -> None:
    assert page.locator(".verdict").inner_text() == result.verdict.sentence
    assert page.locator("#pareto .mark").count() == sum(
        bool(one.rungs) for one in (*result.records, *result.reference_runs)
    )
    assert (
        page.locator("#shape .mark").count() == sum(one.state == "completed" for one in result.records) + 1
    )  # the base
    curves = sum(len(one.rungs) > 1 for one in result.records) + 5  # the base's seeds
    assert page.locator("#curves polyline").count() == curves
    assert page.locator("#timeline .block").count() == len(result.report["timeline"])
    assert page.locator("#yaml").text_content() == (result.run / "best.yaml").read_text()
    assert "%" in page.locator("#diagram").text_content()
    assert page.locator("noscript svg").count() == 0


def test_hovering_shows_a_tooltip(page: Page, result: SearchResult) -> None:
    record = a_candidate(result)
    assert page.locator("#tip").is_hidden()
    hover(mark_of(page, result, record.number))
    expect(page.locator("#tip")).to_be_visible()
    message = page.locator("#tip").inner_text()
    backbone = record.model.backbone
    assert message.splitlines()[0] == f"candidate {record.number}"
    assert f"depth {backbone.depth}, width {backbone.embed_dim}" in message
    assert f"{short_count(record.macs)} MACs, {short_count(record.params)} parameters" in message
    assert f"@200: loss {record.rungs[-1].loss:.3f}, accuracy {record.accuracy:.1%}" in message
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()


def test_a_click_shows_yaml_and_diagram(page: Page, result: SearchResult) -> None:
    before = page.locator("#yaml").text_content()
    record = a_candidate(result)
    mark_of(page, result, record.number).click(force=True)
    text = page.locator("#yaml").text_content()
    assert text != before
    assert check_text(text, result.run / "shown.yaml").spec.model == record.model
    assert page.locator("#detail-title").inner_text() == f"Candidate {record.number}"
    assert page.locator("#diagram svg").get_attribute("aria-label").count("of the MACs") == 10


def test_arrow_keys_and_enter_select_a_candidate(page: Page, result: SearchResult) -> None:
    page.locator("#pareto svg").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_be_visible()
    message = page.locator("#tip").inner_text()
    page.keyboard.press("Enter")
    name = page.locator("#detail-title").inner_text().removeprefix("Winner: ").lower()
    assert message.splitlines()[0] == name
    cheapest = min((one.macs, one.number) for one in (*result.records, *result.reference_runs) if one.rungs)
    assert short_count(cheapest[0]) in message
    page.locator("#pareto svg").focus()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_a_heading_sorts_the_table(page: Page, result: SearchResult) -> None:
    heading = page.locator("#table th[data-key=macs]")
    by_macs = sorted(result.records, key=lambda one: one.macs)
    heading.locator("button").click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert [cell.strip() for cell in page.locator("#table td:nth-child(7)").all_inner_texts()] == [
        short_count(one.macs) for one in by_macs
    ]
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert page.locator("#table tbody td:first-child").first.inner_text() == by_macs[-1].number
    page.locator("#table th[data-key=number] button").click()
    assert page.locator("#table tbody td:first-child").all_inner_texts() == [one.number for one in result.records]
    assert page.locator("#table th[aria-sort]").count() == 1


@pytest.mark.parametrize("clipboard", ["given", "refused"])
def test_copy_puts_the_yaml_into_the_clipboard(
    page: Page, context: BrowserContext, result: SearchResult, clipboard: str
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    if clipboard == "refused":
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    record = result.records[3]
    button = page.locator("#table tbody tr").nth(3).locator("button.copy")
    button.click()
    expect(button).to_have_text("copied")
    text = page.evaluate("navigator.clipboard.readText()")
    assert check_text(text, result.run / "copied.yaml").spec.model == record.model


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_does_not_scroll_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_function("document.querySelector('#pareto svg').viewBox.baseVal.width <= innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_is_dark(page: Page) -> None:
    def colours() -> tuple[str, str]:
        style = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        return style[0], style[1]

    page.emulate_media(color_scheme="light")
    light = colours()
    page.emulate_media(color_scheme="dark")
    dark = colours()
    assert light == ("rgb(255, 255, 255)", "rgb(27, 30, 35)")
    assert dark == ("rgb(20, 23, 27)", "rgb(232, 234, 237)")


def test_another_metric_and_another_rung_are_drawn(page: Page, result: SearchResult) -> None:
    page.locator("#pareto-choice select").select_option("accuracy")
    assert "Validation accuracy" in page.locator("#pareto svg").get_attribute("aria-label")
    page.locator("#shape-choice select").select_option("40 steps")
    reached = sum(bool(one.rungs) for one in result.records) + 1
    assert page.locator("#shape .mark").count() == reached


def test_a_search_for_imagenet_shows_predictions_first(context: BrowserContext, tmp_path: Path) -> None:
    result = large_search(tmp_path, 12, target="imagenet")
    found = result.verdict.prediction
    assert found is not None
    with opening(context, tmp_path) as page:
        assert page.locator(".verdict").inner_text() == result.verdict.sentence
        assert "Predicted ImageNet top-1" in page.locator("#pareto svg").get_attribute("aria-label")
        expect(page.locator("body")).to_contain_text("not used in the ranking")
        rows = page.locator("[aria-label='Predicted accuracy'] tr")
        assert rows.count() == 1 + 2 + len(found.equals)  # a heading, the winner, the base
        interval = f"{found.winner.top1:.1f}% ({found.winner.low:.1f} to {found.winner.high:.1f})"
        assert interval in rows.nth(1).inner_text()
        evidence = page.locator("[aria-label='Evidence'] tr").all_inner_texts()
        assert any("proxy training, 200 steps" in row for row in evidence)
        page.locator("#pareto-choice select").select_option("loss")
        assert "Validation loss" in page.locator("#pareto svg").get_attribute("aria-label")
        page.locator("#pareto svg").focus()
        page.keyboard.press("ArrowRight")
        assert "predicted ImageNet top-1" in page.locator("#tip").inner_text()


def test_without_scripts_verdict_tables_and_a_plot_are_there(browser: Browser, result: SearchResult) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(address(result.run))
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator("noscript figure svg").first).to_be_visible()
    assert page.locator("#table tbody tr").count() == len(result.records)
    assert page.locator("button:visible").count() == 0
    context.close()


def test_the_page_of_a_training(context: BrowserContext, tmp_path: Path) -> None:
    training(tmp_path, 20)
    with opening(context, tmp_path) as page:
        expect(page.locator(".verdict")).to_contain_text("is not complete: epoch 20 of 20")
        for figure in ("loss", "accuracy", "lr"):
            page.locator(f"#{figure} svg").focus()
            page.keyboard.press("ArrowRight")
            message = page.locator("#tip").inner_text()
            assert message.startswith("epoch 1\n")
            assert "training loss 2.300, validation loss 2.200" in message
            assert "learning rate 0.00100" in message
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function("document.querySelector('#loss svg').viewBox.baseVal.width <= innerWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.nightly
def test_two_thousand_candidates_open(context: BrowserContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a mark for each; benchmarks/report_page.py measures the time."""
    monkeypatch.setattr("t2tbuild.nas.verdict.RESAMPLES", 2)
    monkeypatch.setattr("t2tbuild.nas.report_sections.compute_correlations", lambda *_: [])
    large_search(tmp_path, 2000)
    with opening(context, tmp_path) as opened:
        expect(opened.locator("#table tbody tr")).to_have_count(2000)
        assert opened.locator("#pareto [data-entry]").count() >= 2000
