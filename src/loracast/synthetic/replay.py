"""Long loops on a GPU without telling it every kernel anew."""

from collections.abc import Callable

import torch
from torch import Tensor


def replayed(function: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of a tensor that a GPU has recorded once and repeats as a whole; the same function on a CPU.

    A GPU is done with a kernel on few numbers before it is told the next one; told hundreds at once, it need not wait.
    The kernels and their results are the same.

    Args:
        function: of a tensor like `example` alone; it neither draws random numbers nor waits for the device.
    """
    if example.device.type != "cuda":
        return function
    given, aside = example.clone(), torch.cuda.Stream(example.device)
    aside.wait_stream(torch.cuda.current_stream(example.device))
    with torch.cuda.stream(aside):  # once before it is recorded, for what is set up at a first call
        function(given)
    torch.cuda.current_stream(example.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(given)

    def replay(tensor: Tensor) -> Tensor:
        given.copy_(tensor)
        graph.replay()
        return result.clone()

    return replay
