//! Who is compared, and how thoroughly.

use clap::Parser;

use crate::{Outcome, costs, losses, peer::Peer};

/// rtm-bridge beside what else one would take.
#[derive(Debug, Parser)]
#[command(
    name = "benches/compare/run",
    after_help = "Examples:\n  benches/compare/run                   everybody: about a quarter of an hour\n  benches/compare/run --quick           everybody, to see that it works: the figures mean little\n  benches/compare/run bridge node       these"
)]
pub struct Arguments {
    /// Who, by the beginnings of their names: bridge, node, python, node-red, stripe; all by default
    peers: Vec<String>,
    /// Less of everything
    #[arg(long)]
    quick: bool,
    /// Everybody
    #[arg(long, hide = true)]
    all: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Amounts {
    /// Of what is measured.
    pub costs: costs::Amounts,
    /// Of what may be lost.
    pub losses: losses::Amounts,
    /// Whether these are the figures that count.
    pub whole: bool,
}

impl Arguments {
    /// Whether anybody asked for it: it installs things.
    pub fn is_wanted(&self) -> bool {
        self.all || self.quick || !self.peers.is_empty()
    }

    /// How much is done.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            costs: costs::Amounts::new(self.quick),
            losses: losses::Amounts::new(self.quick),
            whole: !self.quick,
        }
    }

    /// Who is compared, in the table's order.
    pub fn chosen(&self) -> Outcome<Vec<Peer>> {
        let is_meant = |peer: Peer, word: &str| match Peer::ALL.iter().any(|peer| peer.name() == word) {
            true => peer.name() == word,
            false => peer.name().starts_with(word),
        };
        if let Some(unknown) =
            self.peers.iter().find(|word| !Peer::ALL.iter().any(|peer| is_meant(*peer, word)))
        {
            return Err(format!("nobody's name starts with {unknown:?}; --help shows who is there").into());
        }
        let is_chosen =
            |peer: &Peer| self.peers.is_empty() || self.peers.iter().any(|word| is_meant(*peer, word));
        Ok(Peer::ALL.into_iter().filter(is_chosen).collect())
    }
}
