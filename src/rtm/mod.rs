//! The platform's side: signing in, keeping one RTM connection per user, frames in and out.

pub mod failure;
pub mod frame;
pub mod pace;
pub mod platform;
pub mod rate;
pub mod session;
mod socket_url;
#[cfg(test)]
mod testing;
pub mod token;
