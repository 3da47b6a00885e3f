"""A network as a graph: `paddle.jit.to_static`, traced once for every shape of its inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import paddle

from harness.base.errors import EnvironmentFault


class Traced:
    """`network` (a layer's method, of tensors alone) as a graph with its own backward pass.

    What the network reads beside its inputs is fixed by the first call of a shape. EnvironmentFault
    where this paddle cannot trace it.
    """

    def __init__(self, network: Callable[..., paddle.Tensor]):
        # Paddle 2.6 warns of its own deprecated ways.
        warnings.filterwarnings("ignore", message=r"The Attr\(force_cpu\)")
        # full_graph: else what cannot be traced would silently run eagerly.
        self._function = paddle.jit.to_static(network, full_graph=True)

    def __call__(self, *inputs: paddle.Tensor) -> paddle.Tensor:
        try:
            self._function.get_concrete_program(*inputs)  # kept, so that a call only runs it
        except Exception as error:  # tracing fails in as many ways as Python does
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise EnvironmentFault(
                f"paddle {paddle.__version__} cannot trace the network: {last}",
                remedy="use --execution eager",
            ) from error
        return self._function(*inputs)
