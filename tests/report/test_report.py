from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from _factories import make_mosaic

import smalti as sm
from smalti._errors import NotFittedError
from smalti.report._data_sections import cramers_v
from smalti.report._write import _script

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = ["measured", "confounding", "training", "latent", "matching", "calibration", "stability", "repeat"]
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
NASTY = "</script><b>T & B</b>"


@pytest.fixture(scope="module")
def model():
    mdata = make_mosaic(pattern="mosaic", n_obs=240, n_features={"a": 30, "b": 20})
    mdata.obs["type"] = mdata.obs["label"].cat.rename_categories({mdata.obs["label"].cat.categories[0]: NASTY})
    sm.model.CLUE.setup_mudata(mdata, batch_key="batch")
    model = sm.model.CLUE(mdata)
    paired = np.flatnonzero(sm.data.presence(mdata).all(axis=1))
    model.train(4, progress=False, validation_indices=paired[:60])
    return model


@pytest.fixture(scope="module")
def page(model, tmp_path_factory) -> Path:
    before = set(model.adata.obsm), set(model.adata.uns), list(model.adata.obs)
    found = sm.tl.stability(sm.model.CLUE, model.adata, 2, batch_key="batch", train_kwargs={"max_epochs": 2})
    path = tmp_path_factory.mktemp("report") / "page.html"
    written = sm.report.write(
        model, model.adata, path, labels_key="type", color=[f"a:{model.adata.mod['a'].var_names[0]}"],
        stability=found, title="PBMC & <i>more</i>",
    )  # fmt: skip
    assert written == path
    assert before == (set(model.adata.obsm), set(model.adata.uns), list(model.adata.obs))
    return path


def verdicts(text: str) -> dict[str, str]:
    found = re.findall(r'<section id="(\w+)">.*?<p class="verdict \w+"><b>.*?</b>(.*?)</p>', text, flags=re.DOTALL)
    return dict(found)


def test_every_section_ends_in_a_sentence_with_threshold_baseline_and_null(page) -> None:
    text = page.read_text(encoding="utf-8")
    found = verdicts(text)
    assert list(found) == SECTIONS
    for key in set(SECTIONS) - {"repeat"}:
        assert all(word in found[key] for word in ("threshold", "baseline", "null")), (key, found[key])
    assert "Seed 0" in found["repeat"]
    assert "sm.model.CLUE.setup_mudata(mdata" in text


def test_the_page_needs_no_network_is_small_and_names_are_escaped(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 6_000_000
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?(?:https?:)?//""", text)
    assert NASTY not in text
    assert "<i>more</i>" not in text
    assert "\\u003c/script>\\u003cb>T & B" in text


def test_json_keeps_what_cannot_be_said_in_it_apart() -> None:
    assert (
        _script({"a": [1.0, float("nan")], "b": "</script>\u2028"}) == '{"a":[1.0,null],"b":"\\u003c/script>\\u2028"}'
    )


def test_the_file_beside_it_is_custom_content_of_multiqc(page) -> None:
    found = json.loads((page.parent / "page_mqc.json").read_text(encoding="utf-8"))
    assert {"id", "section_name", "description", "plot_type", "pconfig", "data"} <= set(found)
    assert found["plot_type"] == "table"
    row = found["data"]["PBMC & <i>more</i>"]
    assert row["cells"] == 240
    assert all(isinstance(value, float) for value in row.values())
    assert {"bio", "batch", "foscttm", "neighbours_kept"} <= set(row)
    assert set(found["headers"]) == set(row)


def test_rivals_and_chance_stand_beside_the_model(page) -> None:
    text = page.read_text(encoding="utf-8")
    table = text[text.index('<section id="matching">') :].split("<table")[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr")[1:]]
    assert rows[0] == ["score", "CLUE", "linear CCA + Harmony", "linear CCA", "chance"]
    assert rows[1][-1] == "0.5"
    assert all(0 <= float(value) <= 1 for row in rows[1:] for value in row[1:])


def test_confounding_is_one_for_a_function_and_small_for_independent_columns() -> None:
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 3, 3000)
    assert cramers_v(batch, batch % 2) == pytest.approx(1)
    assert cramers_v(batch, rng.integers(0, 2, 3000)) < 0.06


def test_the_null_of_a_reliability_error_is_that_of_coins_of_known_bias() -> None:
    curve = pd.DataFrame({"n": [100], "confidence": [0.5], "accuracy": [0.9]})
    assert sm.metrics.chance_error_of_curve(curve) == pytest.approx(
        np.sqrt(2 / np.pi) * 0.05, rel=0.15
    )  # mean size of a normal deviate


def test_an_untrained_model_and_other_endings_are_refused(model, tmp_path) -> None:
    with pytest.raises(NotFittedError, match="trained"):
        sm.report.write(sm.model.CLUE(model.adata), model.adata, tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"x\.html"):
        sm.report.write(model, model.adata, tmp_path / "x.pdf")


def test_without_batches_labels_or_held_out_pairs_the_page_says_so(tmp_path) -> None:
    mdata = make_mosaic(pattern="mosaic", n_obs=90, n_features={"a": 20, "b": 12}, batch=False, labels=False)
    sm.model.CLUE.setup_mudata(mdata)
    model = sm.model.CLUE(mdata)
    model.train(2, progress=False, train_size=1.0)
    found = verdicts(sm.report.write(model, mdata, tmp_path / "x.html").read_text(encoding="utf-8"))
    assert "batch_key" in found["confounding"]
    assert "Nothing was held out" in found["training"]
    assert "Nothing can be said" in found["matching"]
    assert "trained once" in found["stability"]


def test_gates_get_a_section_with_the_cost_of_deleting_what_they_selected(tmp_path) -> None:
    mdata = make_mosaic(pattern="paired", n_obs=200, n_features={"a": 30, "b": 20})
    gated = {"a": sm.data.Modality(gate="global", gate_keep=0.3), "b": None}
    sm.model.CLUE.setup_mudata(mdata, modalities=gated)
    model = sm.model.CLUE(mdata, n_latent=4, n_hidden=16)
    model.train(12, progress=False, train_size=0.7)
    found = verdicts(sm.report.write(model, mdata, tmp_path / "x.html").read_text(encoding="utf-8"))
    assert "Selected: " in found["gates"]
    n_selected = int(model.get_gates("a")["selected"].sum())
    assert f"{n_selected} of 30 of a" in found["gates"]
    if 0 < n_selected <= 15:
        assert all(word in found["gates"] for word in ("threshold", "baseline", "null"))


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")
def test_a_browser_draws_all_pictures_and_switches_colours_without_an_error(page, tmp_path) -> None:
    text = page.read_text(encoding="utf-8")
    listen = """<head><script>
      const fail = (text) => { document.documentElement.dataset.failed = text; };
      window.addEventListener("error", (e) => fail(e.message || "resource"), true);
      console.error = (...all) => fail(all.join(" "));
    </script>"""
    click = """<script>window.addEventListener("load", () => {
      const menu = document.getElementById("colour");
      for (const option of menu.options) { menu.value = option.value; menu.dispatchEvent(new Event("change")); }
      menu.value = "type"; menu.dispatchEvent(new Event("change"));
      document.body.dataset.entries = document.querySelectorAll("#map .legendtext").length;
    });</script></body>"""
    clicked = tmp_path / "clicked.html"
    clicked.write_text(text.replace("<head>", listen, 1).replace("</body>", click), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader"]
    command += ["--enable-unsafe-swiftshader", "--virtual-time-budget=8000", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--dump-dom", clicked.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-drawn="type"' in dom
    assert "data-failed" not in dom, re.findall(r'data-failed="[^"]*"', dom)
    body = dom[dom.index("<body") :]
    figures = set(re.findall(r'<div class="figure[^"]*" id="([\w-]+)"', body)) | {"map"}
    assert len(figures) >= 6
    assert body.count('class="plot-container plotly"') == len(figures)
    assert 'data-entries="3"' in dom  # one for each type
