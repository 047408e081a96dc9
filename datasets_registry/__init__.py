"""What zoos there are: a card a zoo, recipes that train them, and the zoos that are bundled."""

from zoobench.datasets_registry.cards import Card, find_card, read_cards
from zoobench.datasets_registry.sources import Source

__all__ = ["Card", "Source", "find_card", "read_cards"]
