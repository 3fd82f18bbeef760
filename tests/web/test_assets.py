"""The files of the page: complete, typed, and from nowhere else."""

import re

from voicegate.web import load_assets


def test_every_file_has_a_type_and_a_tag_of_its_own() -> None:
    assets = load_assets()
    assert {"/", "/app.js", "/voicegate.js", "/style.css", "/icon.svg"} <= assets.keys()
    assert assets["/"].content_type.startswith("text/html")
    assert len({asset.etag for asset in assets.values()}) == len({asset.body for asset in assets.values()})
    assert all(asset.body for asset in assets.values())


def test_whatever_is_referred_to_is_there() -> None:
    assets = load_assets()
    for path, asset in assets.items():
        text = asset.body.decode()
        referred = re.findall(r'(?:src|href)="([^"]+)"', text) + re.findall(r'from "\./([^"]+)"', text)
        assert [name for name in referred if f"/{name}" not in assets] == [], path


def test_nothing_comes_from_elsewhere() -> None:
    names_of_formats = {"http://www.w3.org/2000/svg"}
    for path, asset in load_assets().items():
        addresses = set(re.findall(r"https?://[\w.-]+\.[\w./-]+", asset.body.decode()))
        assert addresses <= names_of_formats, path


def test_the_page_needs_nothing_that_its_content_security_policy_forbids() -> None:
    page = load_assets()["/"].body.decode()
    assert re.findall(r"\sstyle=|\son\w+=|<style", page) == []
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", page))
