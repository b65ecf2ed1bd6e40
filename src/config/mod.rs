//! `bridge.toml`: from text to a checked [`Config`].
//!
//! ```text
//! load      files, includes ──> one tree whose values know where they stand
//! reader    the tree, knob by knob: types, ranges, unknown keys
//! tables/   what each table means, and what must hold between them
//! ```
//!
//! Nothing stops at the first mistake: every check puts what it finds into one [`ConfigErrors`].
//! A knob exists by being read: the keys that a table asks for are the keys that are known.

mod api_listener;
mod changes;
mod defaults;
mod environment;
mod errors;
mod explain;
mod load;
mod log_filter;
mod model;
mod plain;
mod private_key;
mod reader;
mod report;
mod secret;
mod secrets;
mod source;
mod suggest;
mod syntax;
mod tables;
mod tls_files;
mod tree;
mod values;

#[cfg(test)]
mod tests;

pub use api_listener::{ApiListener, Scheme};
pub use changes::{Changes, Delta};
pub use environment::{Environment, ProcessEnvironment};
pub use errors::{ConfigError, ConfigErrors, Excerpt, Position, Warning};
pub use explain::{Explanation, explain};
pub use log_filter::log_filter;
pub use model::*;
pub use private_key::{InvalidPrivateKey, PrivateKey};
pub use secret::Secret;
pub use tls_files::KeyPairError;
