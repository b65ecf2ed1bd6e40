//! Recent events: the inbox, for systems that can only ask, and the live tail.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::stream;
use tokio::time::Instant;

use super::{
    Admitted, ApiState, Settings,
    auth::{Caller, Scope},
    problem::{Code, Problem},
    query::{Query, bad_value},
};
use crate::{
    config::PlainFormat,
    events::{
        Body, Event, EventId, event_type_label,
        recent::{Cursor, Listener, Most, ReadError, RecentEvents, Whose},
    },
    names::UserName,
};

const DEFAULT_LIMIT: usize = 100;
const MOST_LIMIT: usize = 1000;
const MAX_WAIT: Duration = Duration::from_secs(120);
/// An answer of the inbox ends with the event that brings its frames to this.
const MOST_BYTES: usize = 1 << 20;
/// What a tail reads at once: this is what it holds in memory, beside what hyper does.
const TAIL_STEP: Most = Most { events: 64, bytes: 64 << 10 };
/// How often a silent tail shows that it is there: proxies cut what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/users/{user}/events`
pub(super) async fn inbox(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let user = state.user(&caller, &name?.0)?;
    let query = Query::read(query.as_deref(), &["after", "limit", "wait"])?;
    let bad_id = |text| bad_value("after", text, "an event's id, like evt_1a2b3c4d000000000000002a");
    let after = query.get("after").map(|text| text.parse().map_err(|_| bad_id(text))).transpose()?;
    let most = Most { events: query.limit(DEFAULT_LIMIT, MOST_LIMIT)?, bytes: MOST_BYTES };
    let wait = query.duration("wait", MAX_WAIT)?.unwrap_or_default();
    let inbox = Inbox { recent: state.events.recent(), whose: Whose::Of(user.number), after, most };
    let events = tokio::select! {
        biased;
        events = inbox.read(Instant::now() + wait) => events?,
        () = state.draining.cancelled() => {
            let detail = "the bridge is shutting down, and nothing came; ask again";
            return Err(Problem::new(Code::ShuttingDown, detail).retry_after(Duration::from_secs(5)));
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], list(&events)).into_response())
}

/// One look into an inbox.
struct Inbox {
    recent: RecentEvents,
    whose: Whose,
    after: Option<EventId>,
    most: Most,
}

impl Inbox {
    /// The events after the given one; where there are none, those that come first before the deadline.
    async fn read(&self, deadline: Instant) -> Result<Vec<Event>, ReadError> {
        let listener = self.recent.listen(&self.whose);
        let mut cursor = self.start()?;
        loop {
            match self.recent.read(&self.whose, cursor, self.most) {
                Ok(page) if page.events.is_empty() => cursor = page.next,
                Ok(page) => return Ok(page.events),
                // Asked for the oldest that is kept: that is another one now.
                Err(ReadError::Gone) if self.after.is_none() => {
                    cursor = self.start()?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if tokio::time::timeout_at(deadline, listener.heard()).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    fn start(&self) -> Result<Cursor, ReadError> {
        match self.after {
            Some(id) => self.recent.after(&self.whose, id),
            None => Ok(self.recent.oldest()),
        }
    }
}

/// `{"events": [{"id", ...envelope}]}`
fn list(events: &[Event]) -> Vec<u8> {
    let mut json = b"{\"events\":[".to_vec();
    for (at, event) in events.iter().enumerate() {
        let envelope = envelope(event);
        json.extend_from_slice(if at == 0 { b"{\"id\":\"" } else { b",{\"id\":\"" });
        json.extend_from_slice(event.id.to_string().as_bytes());
        json.extend_from_slice(b"\",");
        // Behind the envelope's opening brace.
        json.extend_from_slice(&envelope[1..]);
    }
    json.extend_from_slice(b"]}");
    json
}

fn envelope(event: &Event) -> bytes::Bytes {
    Body::render(event, None, PlainFormat::Envelope).bytes
}

/// `GET /v1/events`
pub(super) async fn tail(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let query = Query::read(query.as_deref(), &["user"])?;
    let whose = whose(&state, caller, query.get("user"))?;
    let recent = state.events.recent();
    let listener = recent.listen(&whose);
    let (cursor, resume) = match last_event_id(&headers)? {
        Some(id) => (recent.after(&whose, id)?, None),
        None => {
            let now = recent.newest();
            (now, recent.resume_id(&whose, now)?)
        }
    };
    let settings = state.settings();
    let tail = Tail { state, settings, recent, whose, listener, cursor, resume, read: VecDeque::new() };
    let events = stream::unfold(tail, |mut tail| async move {
        let next = tail.next().await?;
        Some((Ok::<_, Infallible>(next), tail))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // What nginx needs to be told, lest it collects events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn whose(state: &ApiState, caller: Caller, user: Option<&str>) -> Result<Whose, Problem> {
    Ok(match user {
        Some(name) => Whose::Of(state.user(&caller, name)?.number),
        None => Whose::All(Box::new(move |name: &UserName| caller.may_act_for(name.as_str()))),
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let mut values = headers.get_all("last-event-id").iter();
    let (Some(value), next) = (values.next(), values.next()) else { return Ok(None) };
    if value.is_empty() && next.is_none() {
        return Ok(None);
    }
    let id = value.to_str().ok().filter(|_| next.is_none()).and_then(|text| text.trim().parse().ok());
    let detail = "the Last-Event-ID must be one event's id, like evt_1a2b3c4d000000000000002a";
    id.map(Some).ok_or_else(|| Problem::new(Code::BadLastEventId, detail))
}

/// A live tail: events are read as its reader takes them, so a slow reader fills no memory. One that is
/// so slow that what it needs is no longer kept loses its connection; one that reads nothing does so
/// through the server's own deadline.
struct Tail {
    state: ApiState,
    /// By which it was let in.
    settings: Arc<Settings>,
    recent: RecentEvents,
    whose: Whose,
    listener: Listener,
    cursor: Cursor,
    /// Where a reader can go on before the first event came.
    resume: Option<EventId>,
    read: VecDeque<Event>,
}

impl Tail {
    /// The next event; none at the end.
    async fn next(&mut self) -> Option<sse::Event> {
        if let Some(id) = self.resume.take() {
            // Without data it is no event, but what a reader goes on from.
            return Some(sse::Event::default().id(id.to_string()));
        }
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(shown(&event));
            }
            if !self.is_still_welcome() {
                return None;
            }
            match self.recent.read(&self.whose, self.cursor, TAIL_STEP) {
                Ok(page) => (self.cursor, self.read) = (page.next, page.events.into()),
                Err(error) => {
                    tracing::info!(%error, "a live tail ended");
                    return None;
                }
            }
            if self.read.is_empty() {
                tokio::select! {
                    () = self.listener.heard() => {}
                    () = self.state.draining.cancelled() => return None,
                }
            }
        }
    }

    /// Not after a reload, which may have changed who may read what, nor during the shutdown: the reader
    /// comes again with the id of its last event.
    fn is_still_welcome(&self) -> bool {
        !self.state.draining.is_cancelled() && Arc::ptr_eq(&self.settings, &self.state.settings())
    }
}

fn shown(event: &Event) -> sse::Event {
    let envelope = envelope(event);
    let mut data = String::from_utf8_lossy(&envelope).into_owned();
    if data.contains(['\n', '\r']) {
        // In JSON that was read these are white space between two tokens.
        data = data.replace(['\n', '\r'], " ");
    }
    sse::Event::default().id(event.id.to_string()).event(event_type_label(&event.kind)).data(data)
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::new(
                Code::EventGone,
                "this event is not kept, or no longer (store.recent), and what came after it may be gone as well; \
                 begin anew without it",
            ),
            ReadError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
pub(super) mod described;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        clock::Timestamp,
        events::{Source, Speaker},
        names::BotName,
    };

    fn event(kind: &str, frame: &'static str) -> Event {
        Event {
            id: EventId { store: 1, number: 42 },
            user: UserName::new("alice").unwrap(),
            bot: BotName::new("support").unwrap(),
            kind: kind.into(),
            received_at: Timestamp::from_millis(0),
            in_reply_to: None,
            source: Source::Live,
            speaker: Speaker::Platform,
            frame: Bytes::from_static(frame.as_bytes()),
        }
    }

    #[test]
    fn an_inboxs_events_are_their_envelopes_with_their_ids() {
        assert_eq!(list(&[]), b"{\"events\":[]}");
        let json = list(&[event("a", "{\"x\":1}"), event("b", "{}")]);
        insta::assert_snapshot!(String::from_utf8(json).unwrap(), @r#"{"events":[{"id":"evt_00000001000000000000002a","type":"a","timestamp":"1970-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":null,"inReplyTo":null,"source":"live","from":"platform","text":null,"data":{"x":1}},{"id":"evt_00000001000000000000002a","type":"b","timestamp":"1970-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":null,"inReplyTo":null,"source":"live","from":"platform","text":null,"data":{}}]}"#);
    }

    #[tokio::test]
    async fn a_tails_event_is_one_line_of_data_whatever_the_frame_is_like() {
        use http_body_util::BodyExt as _;
        let odd = event("so odd\n", "{\r\n  \"x\":\n1}");
        let events = stream::iter([Ok::<_, Infallible>(shown(&odd))]);
        let body = Sse::new(events).into_response().into_body().collect().await.unwrap().to_bytes();
        insta::assert_snapshot!(std::str::from_utf8(&body).unwrap(), @r#"
        id: evt_00000001000000000000002a
        event: unknown
        data: {"type":"so odd\n","timestamp":"1970-01-01T00:00:00.000Z","user":"alice","bot":"support","sequence":null,"inReplyTo":null,"source":"live","from":"platform","text":null,"data":{    "x": 1}}
        "#);
    }

    #[test]
    fn a_last_event_id_is_one_id_or_none() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("last-event-id", HeaderValue::from_str(value).unwrap());
            }
            last_event_id(&headers).map_err(|problem| problem.code())
        };
        let id = EventId { store: 1, number: 42 };
        assert_eq!((read(&[]), read(&[""])), (Ok(None), Ok(None)));
        assert_eq!(read(&[&id.to_string()]), Ok(Some(id)));
        for bad in [&["42"][..], &[" evt_"], &[&id.to_string(), &id.to_string()], &["", ""]] {
            assert_eq!(read(bad), Err(Code::BadLastEventId), "{bad:?}");
        }
    }
}
