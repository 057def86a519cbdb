"""Values that may vanish: the `Cache` port in process and on Redis or Valkey, and single flight in front of either."""

from typing import TYPE_CHECKING

from mainspring.core.cache.flight import SingleFlight
from mainspring.core.cache.memory import MemoryCache
from mainspring.core.cache.sieve import Sieve
from mainspring.core.faces import lazily

if TYPE_CHECKING:
    from mainspring.core.cache.redis import RedisCache

__all__ = ["MemoryCache", "RedisCache", "Sieve", "SingleFlight"]


# The client library is optional and takes 150 ms to import: only who asks for it pays.
__getattr__ = lazily(__name__, {"RedisCache": "redis"})
