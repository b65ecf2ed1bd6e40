//! `bridge.toml`: from text to a checked [`Config`].

mod model;
mod secret;

pub use model::*;
pub use secret::Secret;
