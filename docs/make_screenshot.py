"""Takes screenshots of the pages of MLflow that show runs.

    python docs/make_screenshot.py charts ADDRESS EXPERIMENT_ID RUN_NAME_PATTERN   docs/mlflow_compare.png
    python docs/make_screenshot.py study ADDRESS EXPERIMENT_ID STUDY               docs/mlflow_study.png

Needs a running ``mlflow ui``, Debian's packages ``chromium`` and ``chromium-driver``, and ``pip install selenium``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from urllib.parse import quote

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

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
    browser = browse(address, experiment, f"attributes.run_name LIKE '{pattern}'", "CHART", 2500)
    browser.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']").send_keys(METRICS)
    time.sleep(_LOADING)
    browser.execute_script("document.head.insertAdjacentHTML('beforeend', arguments[0])", _NO_TOOLBARS)
    browser.save_screenshot(str(Path(__file__).parent / "mlflow_compare.png"))
    browser.quit()


def study(address: str, experiment: str, name: str) -> None:
    """Save a screenshot of the run of a study and the runs of its trials."""
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
    browser.save_screenshot(str(Path(__file__).parent / "mlflow_study.png"))
    browser.quit()


if __name__ == "__main__":
    {"charts": charts, "study": study}[sys.argv[1]](*sys.argv[2:])
