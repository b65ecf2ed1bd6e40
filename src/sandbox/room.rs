//! The platform's state behind one lock, and whoever waits for it to change. Nothing is awaited
//! under the lock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    auth::{App, Bearer, UserKey},
    bot::Act,
    connection::{Connection, Encoding, ReceivedFrame},
    faults::SocketEnd,
    plan::Plan,
    settings::Settings,
    state::{Limits, State},
    wire::{self, ClientFrame, FrameKind},
};
use crate::clock::Timestamp;

/// Whether new TCP connections are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DoorState {
    Open,
    Closed,
}

/// The listener's door: as it should be, and as it is.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) wanted: watch::Sender<DoorState>,
    pub(super) is: watch::Sender<DoorState>,
}

impl Door {
    /// Opens or closes it, and waits until it is.
    pub(super) async fn move_to(&self, wanted: DoorState) {
        let mut is = self.is.subscribe();
        self.wanted.send_replace(wanted);
        // The sender is ours: it is there.
        let _ = is.wait_for(|is| *is == wanted).await;
    }
}

/// The state, and what goes with it.
#[derive(Debug)]
pub(super) struct Room {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    pub(super) apps: Arc<[App]>,
    pub(super) door: Door,
    first_settings: Settings,
    limits: Limits,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Room {
    pub(super) fn new(apps: Arc<[App]>, settings: Settings, limits: Limits) -> Self {
        Self {
            state: Mutex::new(State::new(apps.clone(), settings.clone(), limits)),
            changes: watch::Sender::new(0),
            apps,
            door: Door {
                wanted: watch::Sender::new(DoorState::Open),
                is: watch::Sender::new(DoorState::Open),
            },
            first_settings: settings,
            limits,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not hide behind a second one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub(super) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state at the platform's present time, and tells whoever waits for changes.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let now = skewed(&state.settings);
        let result = change(&mut state, now);
        drop(state);
        self.changes.send_modify(|version| *version += 1);
        result
    }

    /// What a bearer token is worth now.
    pub(super) fn check_token(&self, token: &str) -> Bearer {
        let state = self.lock();
        state.grants.check_token(token, skewed(&state.settings))
    }

    /// The platform's present time.
    pub(super) fn now(&self) -> Timestamp {
        skewed(&self.lock().settings)
    }

    /// Waits until `look` finds something.
    pub(super) async fn wait_for<R>(&self, mut look: impl FnMut(&State) -> Option<R>) -> R {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// Forgets everything, as if just started. All sockets are dropped.
    pub(super) fn reset(&self) {
        self.change(|state, _| {
            let keys: Vec<_> = state.users.keys().cloned().collect();
            for key in &keys {
                state.end_all(key, &SocketEnd::Drop);
            }
            let next_connection = state.next_connection;
            *state = State::new(self.apps.clone(), self.first_settings.clone(), self.limits);
            state.next_connection = next_connection;
        });
    }

    /// A frame came on a connection. One that comes after the platform has ended the connection
    /// is nothing to it.
    pub(super) fn receive(self: &Arc<Self>, connection: &Arc<Connection>, bytes: &Bytes, encoding: Encoding) {
        let frame = ClientFrame::parse(bytes);
        let kind = frame.as_ref().map_or(FrameKind::NotJson, ClientFrame::kind);
        if let (FrameKind::Ping, Some(frame)) = (kind, &frame) {
            connection.note_ping();
            connection.send(wire::pong(frame.id()));
            return;
        }
        tracing::info!(connection = connection.id.0, user = ?connection.user.identity, ?kind, bytes = bytes.len(), "frame");
        let plan = self.change(|state, now| {
            if !state.is_open(connection) {
                return Plan::default();
            }
            let received =
                ReceivedFrame { connection: connection.id, at: now, kind, encoding, bytes: bytes.clone() };
            let too_large = bytes.len() > state.settings.max_frame;
            let user = state.user(&connection.user);
            user.frames.add(received);
            user.messages += u64::from(kind == FrameKind::Message);
            if too_large {
                state.end(connection, &SocketEnd::close(1009));
                return Plan::default();
            }
            frame.map(|frame| state.plan(connection, &frame, now)).unwrap_or_default()
        });
        self.carry_out(connection, plan);
    }

    /// What came breaks the protocol: the connection is closed with this code.
    pub(super) fn reject(&self, connection: &Arc<Connection>, code: u16) {
        self.change(|state, _| {
            if state.is_open(connection) {
                state.end(connection, &SocketEnd::close(code));
            }
        });
    }

    fn carry_out(self: &Arc<Self>, connection: &Arc<Connection>, plan: Plan) {
        let after = match plan.ack_later {
            Some((ack, Some(delay))) => {
                let late = connection.clone();
                self.spawn(async move {
                    tokio::time::sleep(delay).await;
                    late.send(ack);
                });
                None
            }
            Some((ack, None)) => Some((connection.clone(), ack)),
            None => None,
        };
        self.perform(&connection.user, plan.acts, after);
    }

    /// Carries the bot's acts out, up to a pause; what comes after the pause follows by itself.
    /// A frame in `after` is sent when all is done.
    fn perform(
        self: &Arc<Self>,
        key: &UserKey,
        mut acts: VecDeque<Act>,
        after: Option<(Arc<Connection>, Utf8Bytes)>,
    ) {
        while let Some(act) = acts.pop_front() {
            if let Act::Pause(pause) = act {
                let (room, key) = (self.clone(), key.clone());
                self.spawn(async move {
                    tokio::time::sleep(pause).await;
                    room.perform(&key, acts, after);
                });
                return;
            }
            self.change(|state, now| state.act(key, &act, now));
        }
        if let Some((connection, frame)) = after {
            connection.send(frame);
        }
    }

    /// Runs a task that ends at shutdown at the latest.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

fn skewed(settings: &Settings) -> Timestamp {
    let skew = Duration::from_millis(settings.clock_skew_ms.unsigned_abs());
    let now = Timestamp::now();
    if settings.clock_skew_ms < 0 { now.minus(skew) } else { now.plus(skew) }
}
