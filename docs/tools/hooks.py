"""What mkdocs does not do by itself: see mkdocs.yml."""

import os
import re
from pathlib import Path
from typing import Any

from docs.tools import generated

PAGES = generated.pages()
SECTIONS = ("tutorials", "guides", "reference", "explanation", "models", "benchmarks")
LOADED = re.compile(
    r"""<(?:script|link|img|source|audio|iframe)\b[^>]*?(?:src|href)=["']?(https?:)?//"""
)
SOUND = re.compile(r'<a href="([^"]+\.(?:flac|wav|ogg|mp3))">(.*?)</a>')


def on_config(config: Any) -> Any:
    """Append the pages that the navigation does not list to the section of their folder."""
    folder, listed = Path(config["docs_dir"]), set(uris(config["nav"]))
    found = sorted(
        {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")} | PAGES.keys()
    )
    for entry in config["nav"]:
        ((title, section),) = entry.items()
        name = title.lower()
        if name in SECTIONS:
            section += [
                page for page in found if page.startswith(f"{name}/") and page not in listed
            ]
    return config


def uris(nav: Any) -> list[str]:
    """Return the pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [uri for entry in entries for uri in uris(entry)]


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that follow from the code."""
    from mkdocs.structure.files import File

    for uri, text in PAGES.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files of the repository that are pages here to the pages."""
    here = Path(page.file.src_uri).parent
    for name, uri in generated.OF_REPOSITORY.items():
        target = os.path.relpath(uri, here)
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(name)}", f"]({target}", markdown)
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Make a player of every link to a sound."""
    audio = r'<audio controls preload="metadata" src="\1"></audio>'
    player = rf'<span class="sound"><span>\2</span>{audio}</span>'
    return SOUND.sub(player, html)


def on_post_build(config: Any) -> None:
    """Refuse a page that fetches something from the network."""
    folder = Path(config["site_dir"])
    fetching = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*.html"))
        if LOADED.search(path.read_text(encoding="utf-8"))
    ]
    if fetching:
        raise SystemExit(f"these pages fetch files from the network: {', '.join(fetching)}")
