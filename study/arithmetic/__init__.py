"""Number types that go under the equations: plain, scaled and rounded."""
