"""Work on several threads that see JAX as the thread sees it that asks for it."""

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


def in_parallel(work: Callable[[Any], None], parts: Iterable[Any], workers: int) -> None:
    """Does all parts, so many at once; the first error ends it, once the parts under way are done.

    What `with jax.enable_x64(True)` and the like set is of one thread; the others are told.
    """
    x64, promotion = jax.config.jax_enable_x64, jax.config.jax_numpy_dtype_promotion
    precision = jax.config.jax_default_matmul_precision

    def told(part: Any) -> None:
        with contextlib.ExitStack() as settings:
            settings.enter_context(jax.enable_x64(x64))
            settings.enter_context(jax.numpy_dtype_promotion(promotion))
            settings.enter_context(jax.default_matmul_precision(precision))
            work(part)

    with ThreadPoolExecutor(workers, "lanes") as pool:
        futures = [pool.submit(told, part) for part in parts]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
