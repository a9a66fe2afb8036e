"""Takes screenshots of the pages of MLflow that show runs and models.

    python docs/make_screenshot.py charts ADDRESS EXPERIMENT_ID RUN_NAME_PATTERN   docs/mlflow_compare.png
    python docs/make_screenshot.py study ADDRESS EXPERIMENT_ID STUDY               docs/mlflow_study.png
    python docs/make_screenshot.py model ADDRESS EXPERIMENT_ID MODEL_ID            docs/mlflow_model.png

Needs a running ``mlflow ui`` and Debian's package ``chromium``; all but ``model`` also ``chromium-driver`` and ``pip
install selenium``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image

if TYPE_CHECKING:
    from selenium import webdriver

HERE = Path(__file__).parent
METRICS = "^(fan_in/ccv|gradient/ratio|sparsity/realised|test/accuracy|test/loss|time/epoch_seconds|train/loss)$"
COLUMNS = ("Dataset", "Source", "Models", "test/accuracy", "val/accuracy", "cell", "killed")  # columns to toggle
_NO_TOOLBARS = "<style>.modebar-container {display: none}</style>"
_LOADING = 8.0  # seconds until all charts of a page are loaded


def browse(address: str, experiment: str, condition: str, mode: str, height: int) -> webdriver.Chrome:
    """Open the page of an experiment in a headless browser, and close the pane of the assistant.

    Args:
        address: Address of ``mlflow ui``.
        experiment: Id of the experiment.
        condition: Filter in MLflow's search language.
        mode: View of the runs: ``CHART`` or ``TABLE``.
        height: Height of the window in pixels.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument(f"--window-size=1500,{height}")
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    browser.get(f"{address}/#/experiments/{experiment}/runs?searchFilter={quote(condition)}&compareRunsMode={mode}")
    time.sleep(_LOADING)
    for button in browser.find_elements(By.CSS_SELECTOR, "button[aria-label*='lose']"):
        if button.is_displayed():
            button.click()
    return browser


def charts(address: str, experiment: str, pattern: str) -> None:
    """Save a screenshot of the charts of the runs whose names match a pattern."""
    from selenium.webdriver.common.by import By

    browser = browse(address, experiment, f"attributes.run_name LIKE '{pattern}'", "CHART", 2500)
    browser.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']").send_keys(METRICS)
    time.sleep(_LOADING)
    browser.execute_script("document.head.insertAdjacentHTML('beforeend', arguments[0])", _NO_TOOLBARS)
    browser.save_screenshot(str(HERE / "mlflow_compare.png"))
    browser.quit()


def study(address: str, experiment: str, name: str) -> None:
    """Save a screenshot of the run of a study and the runs of its trials."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = browse(address, experiment, f"tags.study = '{name}'", "TABLE", 1000)
    browser.find_element(By.XPATH, "//button[contains(., 'Columns')]").click()
    search = browser.find_element(By.CSS_SELECTOR, "input[placeholder='Search columns']")
    for column in COLUMNS:
        search.send_keys(Keys.CONTROL, "a")
        search.send_keys(column)
        time.sleep(1)
        title = f"//*[@role='tree' or contains(@class, 'tree')]//*[normalize-space(text())='{column}']"
        browser.find_elements(By.XPATH, title)[-1].click()
    search.send_keys(Keys.ESCAPE)
    time.sleep(2)
    browser.find_element(By.CSS_SELECTOR, "[row-index='0'] [col-id*='Run Name'] button").click()
    time.sleep(2)
    browser.save_screenshot(str(HERE / "mlflow_study.png"))
    browser.quit()


def model(address: str, experiment: str, model_id: str) -> None:
    """Save a screenshot of the page of a LoggedModel, without the pane of the assistant."""
    page = f"{address}/#/experiments/{experiment}/models/{model_id}?workflowType=machine_learning"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    with tempfile.TemporaryDirectory() as profile:
        where = [f"--user-data-dir={profile}", f"--screenshot={HERE / 'mlflow_model.png'}", "--window-size=1280,840"]
        subprocess.run(["chromium", *flags, *where, "--virtual-time-budget=20000", page], check=True, timeout=120)
    with Image.open(HERE / "mlflow_model.png") as taken:
        taken.crop((0, 0, 945, 840)).quantize(128).save(HERE / "mlflow_model.png", optimize=True)


if __name__ == "__main__":
    {"charts": charts, "study": study, "model": model}[sys.argv[1]](*sys.argv[2:])
