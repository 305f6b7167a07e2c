"""The list of known faults, the table of lacks and the servers speak of the same things."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.zoo.backends import BACKENDS
from tests.zoo.capabilities import PROBES, Capability
from tests.zoo.known_faults import KNOWN_FAULTS
from tests.zoo.lacks import PRODUCTS

FOLDER = Path(__file__).parent
ROWS = range(22)


def test_every_fault_is_one_of_a_check_and_a_server_that_exist() -> None:
    checks = {
        node.name
        for path in FOLDER.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    servers = {backend.name for backend in BACKENDS}
    for fault in KNOWN_FAULTS:
        assert fault.server in servers, fault
        assert fault.check.partition("[")[0] in checks, fault
        assert fault.row in ROWS and fault.seen, fault


def test_no_fault_is_listed_twice() -> None:
    assert [key for key, count in Counter((one.server, one.check) for one in KNOWN_FAULTS).items() if count > 1] == []


def test_every_server_is_a_product_of_the_table_and_the_other_way_round() -> None:
    assert {backend.product for backend in BACKENDS} == {product.name for product in PRODUCTS}


def test_every_capability_is_tried() -> None:
    assert set(PROBES) == set(Capability)
    for product in PRODUCTS:
        assert len({lack.capability for lack in product.lacks}) == len(product.lacks), product.name
