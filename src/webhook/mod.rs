//! Delivery: one attempt to POST an event, what its answer means, and the signature it carries.

mod attempt;
mod client;
mod dispatcher;
mod failure;
mod gate;
mod headers;
mod outcome;
mod reach;
mod removed;
mod replays;
mod sender_error;
mod signature;
mod visible;

pub use attempt::{AttemptResult, Delivery, Sender};
pub use dispatcher::{Dispatcher, LoadError};
pub use failure::{Failure, FailureKind};
pub use headers::is_reserved_header;
pub use outcome::{LONGEST_HOLD, Outcome, RetryCause, classify};
pub use reach::{Leg, Unreached};
pub use removed::RemovedWebhook;
pub use sender_error::{SenderError, SenderProblem};
pub use signature::{InvalidSecret, SignatureError, SignatureHeaders, Signer, TOLERANCE, parse_secret};
pub use visible::visible;
