//! An event's body in the shape that was fixed for it, whatever that is.

use super::{Body, Event};
use crate::{
    config::BodyFormat,
    store::{Store, StoreError, WebhookNumber},
    template::{Template, TemplateError},
};

/// Why an event has no body.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unrendered {
    /// Its template makes none of it.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The store does not have its template.
    #[error("its template is not in the store any more")]
    Lost,
    /// Its template can't be read now.
    #[error("its template can't be read: {0}")]
    Store(#[from] StoreError),
}

/// The body of an event for a webhook, in this format. `current` is the template of the settings, which need not be looked up.
pub fn render(
    webhook: WebhookNumber,
    event: &Event,
    sequence: u64,
    format: BodyFormat,
    current: Option<&Template>,
    store: &Store,
) -> Result<Body, Unrendered> {
    let id = match format.plain() {
        Ok(format) => return Ok(Body::render_for(webhook, event, Some(sequence), format, Vec::new())),
        Err(id) => id,
    };
    let kept;
    let template = match current.filter(|template| template.id() == id) {
        Some(template) => template,
        None => {
            kept = Template::compile(store.template(id)?.ok_or(Unrendered::Lost)?)?;
            &kept
        }
    };
    Ok(Body::render_with(template, Some(webhook), event, Some(sequence))?)
}
