//! Knobs that are read and checked, but not acted on yet.

/// Setting one of these to anything but its default earns a warning that it is not in force.
/// **Whoever implements the feature removes its line here**, and its "not in force yet" in
/// `bridge.toml` and `docs/configuration.md`.
pub const NOT_IN_FORCE: &[&str] = &[];
