//! `GET /openapi.json`: this API, for programs.
//!
//! The file is written by a test (`document`), from the table of routes, their descriptions and the types that they
//! answer with; another test fails while it is not what they say. So the program has its bytes, and nothing that writes
//! them. The black-box tests hold every answer that they get against it.

use axum::{
    extract::RawQuery,
    http::header,
    response::{IntoResponse as _, Response},
};

use super::{problem::Problem, query::Query};

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`. It says nothing of this installation, so that no token is asked for.
pub(super) async fn show(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::read(query.as_deref(), &[])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response())
}

#[cfg(test)]
pub(super) mod described {
    use super::operation::Operation;

    pub(in crate::api) fn show() -> Operation {
        Operation::open("getOpenapi", "This document").tag("About").answers::<serde_json::Map<String, serde_json::Value>>(
            200,
            "OpenAPI 3.1 of the API that this bridge serves.",
            serde_json::json!({ "openapi": "3.1.0", "info": { "title": "rtm-bridge", "version": "0.1.0" }, "paths": {} }),
        )
    }
}

#[cfg(test)]
mod document;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use operation::{Operation, duration_parameter, limit_parameter};
