//! The sandbox over real sockets.

mod client;
mod conversation;
mod faults;
mod sign_in;
