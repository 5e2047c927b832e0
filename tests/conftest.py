"""What every test shares: how hard hypothesis tries, and where the published vectors are."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True)
settings.register_profile(
    "ci", max_examples=200, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

VECTORS = Path(__file__).resolve().parents[1].parent / "shared" / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Return the folder of published test data, which is not part of the project."""
    if not VECTORS.is_dir():
        pytest.skip(f"the published vectors are not beside the project ({VECTORS.name} is missing)")
    return VECTORS
