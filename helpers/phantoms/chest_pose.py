"""How a phantom patient breathes and stands before the detector."""

from __future__ import annotations

import numpy as np

from helpers.phantoms.chest_anatomy import Body, draw_body, with_profile
from helpers.phantoms.chest_projection import Pose

TURN, TURN_HARD, TURN_MOST = 3.0, 24.0, 38.0  # degrees about the long axis: deviation, what `hard` adds, and a limit
TILT, TILT_HARD = 1.6, 6.0  # degrees in the image's plane
LEAN = {"PA": 0.0, "AP": 6.0, "lateral": 0.0}  # degrees by which the beam comes from above
TIGHT = 0.6  # share of hard patients whose image was collimated to a part of the chest, ...
PART = 0.55  # ... by up to this share of its width
RIGHT = 0.6  # share of lateral patients who look to the image's right


def breathe_and_stand(
    anatomy: np.random.Generator, rng: np.random.Generator, age: float, view: str, zoom: float, hard: float
) -> tuple[Body, Pose]:
    """The body as `anatomy` draws it, in the breath and pose that `rng` draws. See `phantom_chest.one`."""
    n, u = rng.normal(size=9), rng.random(4)
    shallow = 0.16 * (1 + (view == "AP")) + 0.2 * hard
    body = draw_body(anatomy, age, float(np.clip(0.9 - abs(n[8]) * shallow, 0, 1)))
    if hard:
        body = with_profile(body, fat=body.fat * (1 + 1.3 * hard * u[1]))
    if view == "lateral":
        field = 31.5 - 2.5 * body.child + body.fat
    else:
        field = 2 * body.width + 4.5 + 4.0 * (1 - body.child) + 0.8 * body.fat
    tight = hard * PART * (0.4 + 0.6 * u[3]) if u[2] < TIGHT else 0.0
    turn = np.clip((TURN + TURN_HARD * hard) * n[1], -TURN_MOST, TURN_MOST)
    pose = Pose(
        view=view,
        turn=float(np.radians(turn)),
        pitch=float(np.radians(LEAN[view] + 2.5 * n[2])),
        tilt=float(np.radians(TILT + TILT_HARD * hard) * n[3]),
        centre=(
            float((0.7 + 1.2 * hard + 5 * tight) * n[4]),
            float(body.apex - 13.0 + (0.8 + 1.2 * hard + 5 * tight) * n[5]),
        ),
        field=float(zoom * field * np.exp((0.045 + 0.06 * hard) * n[0]) * (1 - tight)),
        facing=1 if u[0] < RIGHT else -1,
    )
    return body, pose
