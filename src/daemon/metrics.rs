//! The daemon's metrics: their names, labels, units and help texts, and where their numbers are.
//!
//! Everything is read when it is asked for: counting costs nobody more than an atomic addition.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::webhooks::SharedWebhooks;
use crate::{
    clock::Timestamp,
    events::{Events, Subscriber as _, WebhookStatus},
    letters::DeadLetters,
    messages::Messages,
    metrics::Observed,
    ops::Health,
    rtm::counters::RtmCounters,
    store::Store,
    users::{ConnectionState, Users},
    webhook::Dispatcher,
};

/// Where the numbers are.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) store: Arc<Store>,
    pub(super) users: Arc<Users>,
    pub(super) messages: Messages,
    pub(super) events: Events,
    pub(super) letters: DeadLetters,
    pub(super) webhooks: SharedWebhooks,
    pub(super) rtm: Arc<RtmCounters>,
    pub(super) health: Arc<Health>,
}

/// All metrics, under `rtm_bridge_`.
pub(super) fn registry(measured: Measured) -> Registry {
    let mut registry = Registry::with_prefix("rtm_bridge");
    registry.register_collector(Box::new(measured));
    registry
}

impl Collector for Measured {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.messages(&mut out)?;
        self.events(&mut out)?;
        self.webhooks(&mut out)?;
        self.connections(&mut out)?;
        self.store(&mut out)
    }
}

impl Measured {
    fn messages(&self, out: &mut Out<'_>) -> fmt::Result {
        let counters = self.messages.counters();
        out.counter("messages_accepted", "Messages taken over from callers (202)", counters.accepted.get())?;
        out.counters(
            "messages_final",
            "Messages that reached their final status",
            "status",
            counters.final_by_status(),
        )?;
        out.gauge(
            "messages_queued",
            "Messages that are not final yet",
            self.messages.queued_of_all() as f64,
        )?;
        let ack = counters.ack_seconds.observed();
        out.histogram("ack", "From a message's last send to the platform's ack", &ack)
    }

    fn events(&self, out: &mut Out<'_>) -> fmt::Result {
        let counts = self.events.counters().received_by_type();
        out.counters(
            "events_received",
            "Events received from the platform, without repeats; types that it does not document are other",
            "type",
            counts,
        )
    }

    fn webhooks(&self, out: &mut Out<'_>) -> fmt::Result {
        let dispatchers = self.webhooks.dispatchers();
        let statuses: Vec<(WebhookStatus, &Dispatcher)> =
            dispatchers.iter().map(|(_, dispatcher)| (dispatcher.status(), dispatcher)).collect();
        out.deliveries(&statuses)?;
        out.gauges(
            "backlog",
            "Events that wait for their delivery, or for its next attempt",
            None,
            "webhook",
            statuses.iter().map(|(status, _)| (status.name.as_str().to_owned(), status.backlog as f64)),
        )?;
        let now = Timestamp::now();
        let age = |dispatcher: &Dispatcher| {
            dispatcher.oldest_undelivered().map_or(0.0, |received| now.since(received).as_secs_f64())
        };
        out.gauges(
            "backlog_oldest",
            "Age of the oldest event that waits, since its receipt",
            Some(&Unit::Seconds),
            "webhook",
            statuses.iter().map(|(status, dispatcher)| (status.name.as_str().to_owned(), age(dispatcher))),
        )?;
        out.delivery_seconds(&statuses)?;
        let mut letters: Vec<(String, f64)> = statuses
            .iter()
            .map(|(status, dispatcher)| {
                (status.name.as_str().to_owned(), self.letters.count(dispatcher.webhook()) as f64)
            })
            .collect();
        // Those of webhooks that are no longer configured are there, too.
        for (webhook, count) in self.letters.counts() {
            if let Ok(name) = self.store.webhook_name(webhook)
                && !letters.iter().any(|(known, _)| known == name.as_str())
            {
                letters.push((name.as_str().to_owned(), count as f64));
            }
        }
        out.gauges(
            "dead_letters",
            "Events that could not be delivered and are kept",
            None,
            "webhook",
            letters,
        )
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut states = [
            (ConnectionState::Connecting, "connecting", 0.0),
            (ConnectionState::Connected, "connected", 0.0),
            (ConnectionState::BackingOff, "backing_off", 0.0),
            (ConnectionState::Unauthorized, "unauthorized", 0.0),
        ];
        for user in self.users.all() {
            let state = user.status().state;
            states.iter_mut().filter(|(known, ..)| *known == state).for_each(|(.., count)| *count += 1.0);
        }
        let states = states.map(|(_, name, count)| (name.to_owned(), count));
        out.gauges("users", "Configured users by the state of their connection", None, "state", states)?;
        out.counters(
            "connects",
            "Tries to connect a user, by what came of them",
            "outcome",
            self.rtm.connects.by_outcome(),
        )?;
        out.counters(
            "frames_rejected",
            "Frames from the platform that could not be taken",
            "reason",
            self.rtm.frames_rejected.by_reason(),
        )
    }

    fn store(&self, out: &mut Out<'_>) -> fmt::Result {
        out.histogram("commit", "How long commits to stable storage took", &self.store.commit_seconds())?;
        let bytes = self.store.size_on_disk() as f64;
        out.gauge_of("store", "The store's size on disk", Some(&Unit::Bytes), bytes)?;
        let ready = f64::from(u8::from(self.health.is_ready()));
        out.gauge("ready", "Whether callers may be sent here: 1 as /readyz answers 200, else 0", ready)
    }
}

/// Writes metrics, one kind after the other.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, &format!("{help}."), unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.describe(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            metric.encode_family(&[(label, of)])?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauge_of(name, help, None, value)
    }

    fn gauge_of(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.describe(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, unit, MetricType::Gauge)?;
        for (of, value) in values {
            metric.encode_family(&[(label, of)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, observed: &Observed) -> fmt::Result {
        let mut metric = self.describe(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let Observed { sum, count, buckets } = observed;
        metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }

    fn deliveries(&mut self, webhooks: &[(WebhookStatus, &Dispatcher)]) -> fmt::Result {
        let help = "Deliveries that ended: delivered (2xx), to be tried again, or given up";
        let mut metric = self.describe("deliveries", help, None, MetricType::Counter)?;
        for (WebhookStatus { name, counts, .. }, _) in webhooks {
            for (outcome, value) in
                [("delivered", counts.delivered), ("retry", counts.retried), ("dead", counts.dead)]
            {
                metric
                    .encode_family(&[("webhook", name.as_str()), ("outcome", outcome)])?
                    .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn delivery_seconds(&mut self, webhooks: &[(WebhookStatus, &Dispatcher)]) -> fmt::Result {
        let help = "From an event's receipt to the webhook's 2xx; replays are not counted";
        let mut metric = self.describe("delivery", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (status, dispatcher) in webhooks {
            let Observed { sum, count, buckets } = dispatcher.delivery_seconds();
            metric
                .encode_family(&[("webhook", status.name.as_str())])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
