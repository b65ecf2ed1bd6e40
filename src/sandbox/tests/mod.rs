//! The sandbox over real sockets.

mod client;
mod conversation;
mod faults;
mod official;
mod sign_in;
mod uploads;
