"""A class of `runner.values` is what `dataclasses` would make of it."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field, replace
from pathlib import Path
from typing import Any

import pytest

from runner import values
from runner.plan import CopyDirectoryFromEngine, CopyFileFromEngine, Endpoint, KnownHosts, SshAgent, UsernamePassword

MAKERS: list[Callable[..., Any]] = [values.dataclass, dataclasses.dataclass]


def make_classes(maker: Callable[..., Any]) -> tuple[Any, Any, Any]:
    """A class, one below it with more fields, and one below that with none."""

    @maker(frozen=True, slots=True)
    class Base:
        """A value."""

        name: str
        secret: str = field(default="s", repr=False)
        place: tuple[int, ...] = field(default=(), compare=False)
        kind = "base"

        @property
        def twice(self) -> str:
            return self.name * 2

    @maker(frozen=True, slots=True)
    class Child(Base):
        """A value with more in it."""

        secret: str = "other"
        more: set[int] = field(default_factory=set)

    class Leaf(Child):
        __slots__ = ()

    return Base, Child, Leaf


@pytest.fixture(params=MAKERS, ids=["ours", "dataclasses"])
def classes(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """Made in either way: whatever is said here of ours, holds for those of `dataclasses`."""
    return make_classes(request.param)


def test_it_is_made_of_its_values(classes: tuple[Any, Any, Any]) -> None:
    base, child, leaf = classes

    one = base("n", place=(1,))
    assert (one.name, one.secret, one.place, one.kind, one.twice) == ("n", "s", (1,), "base", "nn")
    other = leaf("n", "x", (2,), {3})
    assert (other.name, other.secret, other.place, other.more) == ("n", "x", (2,), {3})
    assert child("n").secret == "other"
    assert child("n").more is not child("n").more
    assert not hasattr(one, "__dict__")
    assert base.__match_args__ == ("name", "secret", "place")
    match one:
        case base(name, secret):
            assert (name, secret) == ("n", "s")


@pytest.mark.parametrize("given", [((), {}), (("n", "s", (), 1), {}), (("n",), {"name": "m"}), (("n",), {"nome": 1})])
def test_other_values_are_refused(classes: tuple[Any, Any, Any], given: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    with pytest.raises(TypeError):
        classes[0](*given[0], **given[1])


def test_it_equals_one_of_its_class_with_the_same_values(classes: tuple[Any, Any, Any]) -> None:
    base, child, leaf = classes

    assert base("n", place=(1,)) == base("n", place=(2,))
    assert hash(base("n", place=(1,))) == hash(base("n", place=(2,)))
    assert base("n") != base("m")
    assert base("n", "a") != base("n", "b")
    assert base("n", "other") != child("n")
    assert child("n") != leaf("n")
    assert base("n") != ("n", "s", ())
    with pytest.raises(TypeError, match="unhashable"):
        hash(child("n"))


def test_what_is_not_to_be_shown_is_not_shown(classes: tuple[Any, Any, Any]) -> None:
    base, _, leaf = classes

    assert repr(base("n", "hidden", (1,))).endswith("Base(name='n', place=(1,))")
    assert repr(leaf("n")).endswith("Leaf(name='n', secret='other', place=(), more=set())")


def test_it_cannot_be_changed(classes: tuple[Any, Any, Any]) -> None:
    base, _, leaf = classes

    for one in (base("n"), leaf("n")):
        with pytest.raises(FrozenInstanceError):
            one.name = "m"
        with pytest.raises(FrozenInstanceError):
            del one.name
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            one.unheard_of = 1


def test_it_is_copied_and_replaced(classes: tuple[Any, Any, Any]) -> None:
    base, _, leaf = classes

    for one in (base("n", "x", (1,)), leaf("n", "x", (1,), {2})):
        for twin in (copy.copy(one), copy.deepcopy(one), replace(one)):
            assert twin == one
            assert twin.place == (1,)
            assert type(twin) is type(one)
        assert replace(one, name="m", place=()).secret == "x"
        with pytest.raises(TypeError):
            replace(one, unheard_of=1)
        assert dataclasses.asdict(one)["secret"] == "x"


def test_values_of_a_play_keep_their_secrets_and_their_kinds_apart() -> None:
    assert "hunter2" not in repr(UsernamePassword("u", "hunter2"))
    endpoint = Endpoint("h", 22, SshAgent("u"), KnownHosts())
    assert {endpoint: 1}[Endpoint("h", 22, SshAgent("u"), KnownHosts())] == 1
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint
    copies: list[Any] = [CopyFileFromEngine("a", "b"), CopyDirectoryFromEngine("a", "b")]
    assert copies[0] != copies[1]
    assert replace(CopyDirectoryFromEngine("a", "b"), delete=True).delete


def test_what_has_other_options_is_refused() -> None:
    with pytest.raises(TypeError):
        values.dataclass(frozen=False, slots=True)


def test_what_every_play_loads_is_made_so() -> None:
    """A frozen dataclass of the other kind there would cost its quarter of a millisecond again."""
    for name in ("plan", "logins", "results", "program", "public_keys", "transfer.memory", "playbook.templating"):
        module = importlib.import_module(f"runner.{name}")
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        assert "@dataclass" not in text or "from runner.values import dataclass" in text, name
