//! Bodies that a template makes.

use super::{
    Shared,
    state::{Errand, Job},
};
use crate::{
    config::{self, BodyFormat},
    events::{Body, Unrendered, render},
    names::WebhookName,
    store::{DeadLetter, Store},
    template::TemplateId,
    webhook::{AttemptResult, FailureKind, Outcome, RetryCause},
};

/// Keeps the template that bodies are made with from now on, so that they can be made again.
pub(super) fn keep_template(store: &Store, webhook: &WebhookName, settings: &config::Webhook) {
    if let Some(template) = &settings.template
        && let Err(error) = store.keep_template(template)
    {
        tracing::error!(%webhook, %error, "the webhook's template could not be kept: what is tried again after a change of it may become dead letters");
    }
}

impl Shared {
    /// The body of an event that was begun with a template; or what came of it, if there is none.
    pub(super) fn body_of_template(&self, job: &mut Job, id: TemplateId) -> Result<Body, AttemptResult> {
        let error = match self.rendered(job, BodyFormat::Template(id)) {
            Ok(body) => return Ok(body),
            Err(error) => error,
        };
        match (error, &job.errand) {
            (Unrendered::Template(_) | Unrendered::Lost, Errand::Replay(letter, _))
                if job.setup.settings.format != job.started.format =>
            {
                // It was never sent, since there was nothing to send: its body is still to be fixed.
                let format = job.setup.settings.format;
                let letter = DeadLetter { format, ..DeadLetter::clone(letter) };
                let body = self.rendered(job, format).map_err(|error| result_of(&error))?;
                self.letters.reshape(&letter);
                job.started.format = format;
                if let Errand::Replay(known, _) = &mut job.errand {
                    **known = letter;
                }
                Ok(body)
            }
            (error, _) => Err(result_of(&error)),
        }
    }

    fn rendered(&self, job: &Job, format: BodyFormat) -> Result<Body, Unrendered> {
        let current = job.setup.settings.template.as_ref();
        render(self.number, job.event(), job.started.item.sequence, format, current, &self.store)
    }
}

fn result_of(error: &Unrendered) -> AttemptResult {
    let outcome = match error {
        Unrendered::Template(_) | Unrendered::Lost => Outcome::Unrendered,
        Unrendered::Store(_) => {
            Outcome::Retry { cause: RetryCause::NoAnswer(FailureKind::Template), hold: None }
        }
    };
    AttemptResult::unrendered(error.to_string(), outcome)
}
