"""The form of a head that is traced for other engines: the same numbers but for rounding, outputs kept apart."""

import torch

from .base import Fusion, UncertaintyHead, resized, temper_logits


class TracedForm:
    """A head as it is. A head type may bring a form that is faster where channels come first (`HeadType`)."""

    def responses(
        self, fusion: Fusion, head: UncertaintyHead, taps: list[torch.Tensor], size: torch.Size
    ) -> tuple[torch.Tensor, ...]:
        """Compute the parts of the responses, which follow each other along the channels, on the grid of the logits.

        Args:
            taps: (1, channels_i, *spatial_i).
            size: of the logits' grid.
        """
        found, detail = resized(head.responses(fusion(taps)), size), fusion.detail(taps)
        return (head.with_detail(found, None if detail is None else resized(detail, size)),)

    def maps(
        self, head: UncertaintyHead, logits: torch.Tensor, responses: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Compute what `graph_outputs.MAPS` names.

        Args:
            logits, responses: stitched, (channels, voxels).
            scale: by which tempered logits are divided before the softmax, (1,).
        """
        maps = head.maps(logits[None], responses[None])
        classes, runner_up = maps.top[0].to(torch.uint8).unbind(0)
        tempered = torch.softmax(temper_logits(logits[None], maps.calibration) / scale, 1)[0]
        found = (maps.calibration[0, 0], maps.ranking[0, 0], maps.epistemic[0, 0], tempered)
        return (classes, runner_up, *found, *(() if maps.aleatoric is None else (maps.aleatoric[0, 0],)))
