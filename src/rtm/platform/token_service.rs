//! A customer's own token service (STS), which makes the assertions of a bot's users in our place.

use std::collections::BTreeMap;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::{Terms, answer::Answer};
use crate::{
    clock::Timestamp,
    config::{Bot, Secret, TokenService, TokenServiceBody},
    ordered,
    rtm::{
        failure::{Failure, FailureKind, Step},
        subject::Subject,
        token::check_assertion,
    },
};

/// More of an answer is not read: a JWT is a few kilobytes.
const MOST_ANSWER: usize = 1024 * 1024;

impl Terms {
    /// `POST` to the service for an assertion; `now` is the platform's time. Use each once.
    pub(super) async fn ask_service(
        &self,
        service: &TokenService,
        bot: &Bot,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Secret, Failure> {
        let mut request = self.http.post(service.url.clone());
        if let Some(header) = service.bearer.as_ref().and_then(authorization) {
            request = request.header(AUTHORIZATION, header);
        }
        for (name, value) in &service.headers {
            // Both were checked when the configuration was read.
            if let (Ok(name), Ok(mut value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
            {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        let fields = self.fields(service, bot, subject);
        let request = match service.body {
            TokenServiceBody::Json => request.json(&fields),
            TokenServiceBody::Form => request.form(&as_form(&fields)),
        };
        let values = service.headers.iter().chain(&service.fields).map(|(_, value)| value);
        let secrets: Vec<&Secret> = service.bearer.iter().chain(values).collect();
        let answer = Answer::to(Step::TokenService, request, &secrets, MOST_ANSWER).await?;
        if let Some(failure) = answer.failure(|status, _| match status.as_u16() {
            400 | 401 | 403 => Some(FailureKind::Unauthorized),
            _ => None,
        }) {
            return Err(failure);
        }
        let body: Map<String, Value> = answer.body()?;
        let field = &service.jwt_field;
        let jwt = body.get(field).and_then(Value::as_str);
        let jwt =
            jwt.ok_or_else(|| answer.malformed(&format!("it has no text `{field}` (sts.jwt_field)")))?;
        check_assertion(jwt, bot, subject, now).map_err(|unfit| answer.malformed(&unfit.to_string()))?;
        Ok(Secret::new(jwt))
    }

    /// What the service is told, by the names that the platform's own clients use.
    fn fields(&self, service: &TokenService, bot: &Bot, subject: &Subject) -> BTreeMap<String, Value> {
        let configured = service.fields.iter();
        let mut fields: BTreeMap<String, Value> =
            ordered::map(configured.map(|(name, value)| (name.clone(), value.expose().into())));
        fields.insert("clientId".into(), bot.client_id.as_str().into());
        fields.insert("identity".into(), (*subject.name).into());
        fields.insert("aud".into(), self.audience.as_str().into());
        fields.insert("isAnonymous".into(), subject.is_anonymous().into());
        fields
    }
}

/// The header for the bridge's own token. The platform writes the scheme small; others know it as it is here.
fn authorization(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn as_form(fields: &BTreeMap<String, Value>) -> Vec<(&str, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    fields.iter().map(|(name, value)| (name.as_str(), text(value))).collect()
}
