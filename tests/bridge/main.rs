//! The daemon against the stand-in platform and a webhook receiver, over real sockets.

mod conversation;
mod support;
