"""The same events give the same Plans, byte for byte, in any process; and the engine imports nothing that could differ."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
PLAY = """
import sys
sys.path.insert(0, sys.argv[1])
from hashlib import sha256
from fix_engine_player import Player
from fix_engine_worlds import CONFIGURATION_BYTES, SHAPE_BYTES, WORKLOAD_BYTES, Kind, Op, configuration, pod_sets, workload

def noise(name, size):
    return b"".join(sha256(f"{name}/{part}".encode()).digest() for part in range(size // 32 + 1))[:size]

for world in range(60):
    first, second = (configuration(noise(f"{world}-{part}", CONFIGURATION_BYTES), Kind()) for part in (0, 1))
    shapes = [pod_sets(noise(f"{world}-shape-{part}", SHAPE_BYTES)) for part in range(4)]
    player = Player(first)
    for number in range(1, 25):
        player.play(Op("pend", workload(number, noise(f"{world}-{number}", WORKLOAD_BYTES), shapes)))
        if number % 6 == 0:
            player.play(Op("decide", 7))
            player.play(Op("close", number))
        if number == 12:
            player.play(Op("configure", second))
    player.play(Op("decide", 50))
    print(player.plans)
    print(player.verdicts())
    print(player.engine.usage())
"""


def play(seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", PLAY, str(TESTS)], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def test_plans_do_not_depend_on_the_hash_seed() -> None:
    first = play("1")
    assert "Admission(" in first
    assert "WaitingForQuota" in first
    assert first == play("4242")
