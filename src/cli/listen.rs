//! Listening, for commands that are meant for this machine only.

use std::net::SocketAddr;

use clap::Args;

use super::CommandError;

/// Who may connect.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Allow an address that other machines can reach
    #[arg(long)]
    allow_remote: bool,
}

impl Reach {
    /// Refuses an address that other machines can reach, unless that is wanted.
    pub(super) fn check(&self, listen: SocketAddr) -> Result<(), CommandError> {
        if self.allow_remote || listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(CommandError::Refused(format!(
            "error: other machines could reach {listen}, and whoever reaches it may use it; \
             add --allow-remote if that is wanted"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_no_permission() {
        let allowed =
            |address: &str, allow_remote| Reach { allow_remote }.check(address.parse().unwrap()).is_ok();
        for local in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(allowed(local, false), "{local}");
        }
        for remote in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!allowed(remote, false), "{remote}");
            assert!(allowed(remote, true), "{remote}");
        }
    }
}
