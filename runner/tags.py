"""Which steps --tags and --skip-tags choose. The special tags mean what they mean in Ansible."""

from __future__ import annotations

from typing import NamedTuple

ALWAYS, NEVER, TAGGED, UNTAGGED, ALL = SPECIAL_TAGS = ("always", "never", "tagged", "untagged", "all")


class TagFilter(NamedTuple):
    """The tags of which a step must have one, and those of which it must have none."""

    only: frozenset[str] = frozenset((ALL,))
    skipped: frozenset[str] = frozenset()

    def chooses(self, tags: frozenset[str]) -> bool:
        """Whether a step with these tags is carried out."""
        return self._wants(tags) and not self._skips(tags)

    def _wants(self, tags: frozenset[str]) -> bool:
        if ALWAYS in tags or tags & self.only:
            return True
        if NEVER in tags:
            return False
        return ALL in self.only or (TAGGED if tags else UNTAGGED) in self.only

    def _skips(self, tags: frozenset[str]) -> bool:
        if ALL in self.skipped:
            return ALWAYS not in tags or ALWAYS in self.skipped
        return bool(tags & self.skipped) or (TAGGED if tags else UNTAGGED) in self.skipped


EVERY_TAG = TagFilter()
# Also those that are played only if they are named.
ANY_TAG = TagFilter(frozenset((ALL, NEVER)))


def read_tags(text: str) -> frozenset[str]:
    """The tags in text with commas between them."""
    return frozenset(tag.strip() for tag in text.split(",") if tag.strip())
