"""Photographs MLflow's charts of some runs: python docs/make_screenshot.py ADDRESS EXPERIMENT_ID RUN_NAME_PATTERN.

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

METRICS = "^(fan_in/ccv|gradient/ratio|sparsity/realised|test/accuracy|test/loss|time/epoch_seconds|train/loss)$"
_NO_TOOLBARS = "<style>.modebar-container {display: none}</style>"
_LOADING = 8.0  # seconds; the page loads its charts piece by piece


def main(address: str, experiment: str, pattern: str) -> None:
    """Write docs/mlflow_compare.png."""
    options = webdriver.ChromeOptions()
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    options.add_argument("--window-size=1500,2500")
    browser = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        runs = quote(f"attributes.run_name LIKE '{pattern}'")
        browser.get(f"{address}/#/experiments/{experiment}/runs?searchFilter={runs}&compareRunsMode=CHART")
        time.sleep(_LOADING)
        for button in browser.find_elements(By.CSS_SELECTOR, "button[aria-label*='lose']"):
            if button.is_displayed():
                button.click()  # the assistant's pane
        browser.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']").send_keys(METRICS)
        time.sleep(_LOADING)
        browser.execute_script("document.head.insertAdjacentHTML('beforeend', arguments[0])", _NO_TOOLBARS)
        browser.save_screenshot(str(Path(__file__).parent / "mlflow_compare.png"))
    finally:
        browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
