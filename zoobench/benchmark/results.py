"""The main job: the paper's table on the zoos of the registry, and whether it still holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from zoobench.benchmark.paper import paper_table
from zoobench.datasets_registry.cards import ROOT, find_card, read_cards
from zoobench.errors import ZooFormatError
from zoobench.fetch import fetch_zoo, stored_at
from zoobench.properties import HYPERPARAMETERS
from zoobench.store import read_index

#: The committed results of the bundled zoos, one file a zoo.
RESULTS = ROOT / "results"

#: By how much a score may differ from the committed one. Closed forms agree between machines to rounding; trained
#: probes and trees do not quite.
CLOSED_FORM_TOLERANCE, TRAINED_TOLERANCE = 1e-6, 1e-3

SCHEMA_VERSION = 1

SCORES = ("train", "val", "test")


def benchmarked() -> list[str]:
    """Names of the bundled zoos whose results are committed: sparsified twins are for studies of their own."""
    return [card.name for card in read_cards().values() if card.bundled and card.twin_of is None]


def default_features(zoo: Any) -> tuple[str, ...]:
    """What a table should show: the hyper-parameters-only reference too, where it has something to learn from.

    Parameters
    ----------
    zoo : Zoo

    Returns
    -------
    tuple of str
        For :func:`~zoobench.paper_table`.
    """
    varies = any(zoo.properties[name].nunique() > 1 for name in HYPERPARAMETERS if name in zoo.properties)
    return ("weights", "statistics", "hyperparameters") if varies else ("weights", "statistics")


def run_paper(name: str) -> dict[str, Any]:
    """The paper's benchmark on one zoo of the registry.

    Parameters
    ----------
    name : str
        Name of the zoo. Where its hyper-parameters vary, the hyper-parameters-only reference is part of the result.

    Returns
    -------
    dict
        Plain data: ``schema``, ``protocol``, ``zoo``, ``data_sha256``, ``n_states``, ``n_models``, ``licence``, and
        ``rows``, the rows of :func:`~zoobench.paper_table`.
    """
    card = find_card(name)
    zoo = fetch_zoo(card.name)
    table = paper_table(zoo, features=default_features(zoo))
    return {
        "schema": SCHEMA_VERSION,
        "protocol": "paper",
        "zoo": card.name,
        "data_sha256": read_index(stored_at(card))["files"]["weights"]["sha256"],
        "n_states": len(zoo.properties),
        "n_models": int(zoo.properties["model"].nunique()),
        "licence": card.licence,
        "rows": table.to_dict("records"),
    }


def save_result(result: dict[str, Any], folder: Path) -> Path:
    """Write a result to ``folder``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['zoo']}.json"
    scratch = path.with_suffix(".json.part")
    scratch.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)
    return path


def load_result(path: Path) -> dict[str, Any]:
    """Read what :func:`save_result` wrote."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        schema = result["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ZooFormatError(f"{path} is no result of zoobench ({error}); run `zoobench run` again") from error
    if schema != SCHEMA_VERSION:
        raise ZooFormatError(f"{path} has schema {schema!r}, but {SCHEMA_VERSION} is known; run `zoobench run` again")
    return result


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """In which sentences two results of one zoo differ.

    Parameters
    ----------
    found, expected : dict
        Results, as :func:`run_paper` yields them.

    Returns
    -------
    list of str
        Empty where they agree within tolerance.
    """
    zoo = expected["zoo"]
    if found["data_sha256"] != expected["data_sha256"]:
        return [f"{zoo}: the zoo's weights are not those that the result was made from"]
    rows = {(row["features"], row["property"]): row for row in found["rows"]}
    wanted = {(row["features"], row["property"]): row for row in expected["rows"]}
    said = [f"{zoo}: {prop} from {kind} is missing" for kind, prop in wanted.keys() - rows.keys()]
    said += [f"{zoo}: {prop} from {kind} is new" for kind, prop in rows.keys() - wanted.keys()]
    for key in sorted(rows.keys() & wanted.keys()):
        closed = wanted[key]["metric"] == "R2" and key[0] != "hyperparameters"
        tolerance = CLOSED_FORM_TOLERANCE if closed else TRAINED_TOLERANCE
        for part in SCORES:
            new, old = rows[key][part], wanted[key][part]
            if not math.isclose(new, old, rel_tol=0, abs_tol=tolerance):
                said.append(f"{zoo}: {key[1]} from {key[0]}, {part}: {new:.6f}, but {old:.6f} is committed")
    return said
