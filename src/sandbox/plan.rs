//! What the platform does for a frame that came.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    bot::Act,
    connection::Connection,
    faults::{FaultKind, SocketEnd, Taken},
    state::State,
    wire::{self, ClientFrame, FrameKind, Verdict},
};
use crate::clock::Timestamp;

/// What happens for a frame that came.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) acts: VecDeque<Act>,
    /// An ack to send when the acts are done, or some time from now.
    pub(super) ack_later: Option<(Utf8Bytes, Option<Duration>)>,
}

impl State {
    /// What the platform does for a frame: acks at once what is acked at once.
    pub(super) fn plan(
        &mut self,
        connection: &Arc<Connection>,
        frame: &ClientFrame<'_>,
        now: Timestamp,
    ) -> Plan {
        let key = &connection.user;
        let ack = wire::ack(frame.id(), Verdict::Fine);
        let acts = match frame.kind() {
            FrameKind::Message => return self.plan_message(connection, frame, now),
            FrameKind::Ack | FrameKind::Ping | FrameKind::NotJson => return Plan::default(),
            FrameKind::ClientEvent => {
                connection.send(wire::ack(None, Verdict::Fine));
                return Plan::default();
            }
            FrameKind::Other => Vec::new(),
            FrameKind::Event => match frame.event().as_deref() {
                Some("close_agent_chat") => self.hang_up(key, false),
                _ => Vec::new(),
            },
            FrameKind::CloseSession => self.hang_up(key, true),
        };
        connection.send(ack);
        Plan { acts: acts.into(), ack_later: None }
    }

    fn plan_message(
        &mut self,
        connection: &Arc<Connection>,
        frame: &ClientFrame<'_>,
        now: Timestamp,
    ) -> Plan {
        let ack = wire::ack(frame.id(), Verdict::Fine);
        let mut ack_later = None;
        match self.faults.on_message(&connection.user.identity) {
            Some(FaultKind::LostMessage) => return Plan::default(),
            Some(FaultKind::NegativeAck) => {
                connection.send(wire::ack(frame.id(), Verdict::Refused));
                return Plan::default();
            }
            Some(FaultKind::RateLimit { .. }) => {
                self.end(connection, &SocketEnd::close(1008));
                return Plan::default();
            }
            Some(FaultKind::EndBeforeAck { taken, end }) => {
                self.end(connection, &end);
                if taken == Taken::No {
                    return Plan::default();
                }
            }
            Some(FaultKind::LostAck) => {}
            Some(FaultKind::DelayedAck { ms }) => ack_later = Some((ack, Some(Duration::from_millis(ms)))),
            Some(FaultKind::AckAfterReply) => ack_later = Some((ack, None)),
            _ => connection.send(ack),
        }
        Plan { acts: self.accept(connection, frame, now).into(), ack_later }
    }
}
