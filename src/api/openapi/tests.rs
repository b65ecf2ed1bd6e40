//! The document is held against the code: what a route says of itself must be what it does.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use boon::{Compiler, Schemas};
use serde_json::Value;

use super::operation::{Operation, Place};
use crate::{
    api::{
        problem::Code,
        router,
        routes::{self, Described},
        tests::{as_client, ask, client, loopback_request, state},
    },
    config::Scopes,
    names::ClientName,
};

fn document() -> Value {
    serde_json::from_str(&super::document::text()).unwrap()
}

/// A route's path with the examples of its parameters.
fn example_path(route: &Described) -> String {
    let parameters = route.operation.parameters.iter().filter(|parameter| parameter.place == Place::Path);
    parameters.fold(route.path.to_owned(), |path, parameter| {
        path.replace(&format!("{{{}}}", parameter.name), parameter.example.as_str().unwrap())
    })
}

fn names_of(operation: &Operation, place: Place) -> BTreeSet<&str> {
    let parameters = operation.parameters.iter().filter(|parameter| parameter.place == place);
    parameters.map(|parameter| parameter.name).collect()
}

/// Asks for a route, as a program of this machine.
async fn ask_at(route: &Described, path: &str) -> (u16, Value) {
    let request = loopback_request(&route.method.to_uppercase(), path).body(Body::empty()).unwrap();
    let (status, _, body) = ask(router(&state(&BTreeMap::new())), request).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn query_parameters_are_those_that_the_code_knows() {
    for route in routes::described() {
        let (status, problem) = ask_at(&route, &format!("{}?~=1", example_path(&route))).await;
        assert_eq!((status, &problem["code"]), (400, &"malformed_query".into()), "{}: {problem}", route.path);
        let detail = problem["detail"].as_str().unwrap();
        let known: BTreeSet<&str> = match detail.split_once("; there are ").unwrap().1 {
            "none here" => BTreeSet::new(),
            names => names.split(", ").collect(),
        };
        assert_eq!(names_of(&route.operation, Place::Query), known, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn path_parameters_are_those_of_the_path() {
    for route in routes::described() {
        let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path: BTreeSet<_> = in_path.collect();
        assert_eq!(names_of(&route.operation, Place::Path), in_path, "{}", route.path);
        for parameter in in_path {
            let path = route.path.replace(&format!("{{{parameter}}}"), "%ff");
            let (status, problem) = ask_at(&route, &path).await;
            assert_eq!((status, &problem["code"]), (400, &"malformed_path".into()), "{path}: {problem}");
        }
    }
}

#[tokio::test]
async fn scopes_are_those_that_the_code_wants() {
    let none = Scopes { send: false, read: false, admin: false };
    let clients = BTreeMap::from([(ClientName::new("none").unwrap(), client("none-token", &["*"], none))]);
    let state = state(&clients);
    for route in routes::described() {
        let request = as_client(&route.method.to_uppercase(), &example_path(&route), "none-token");
        let (status, _, body) = ask(router(&state), request).await;
        match route.operation.scope {
            None => assert_eq!(status, 200, "{}", route.path),
            Some(scope) => {
                assert_eq!(
                    (status.as_u16(), &body["code"]),
                    (403, &"scope_missing".into()),
                    "{}",
                    route.path
                );
                let scope = format!("the scope {:?}", scope.as_str());
                assert!(body["detail"].as_str().unwrap().contains(&scope), "{}: {body}", route.path);
            }
        }
    }
}

#[test]
fn every_code_is_some_routes_answer() {
    let routes = routes::described();
    for code in Code::ALL {
        // These two are what there is where no route is.
        let elsewhere = [Code::NotFound, Code::MethodNotAllowed].contains(&code);
        assert_eq!(routes.iter().any(|route| route.operation.codes.contains(&code)), !elsewhere, "{code:?}");
        let responses = document()["components"]["responses"].to_string();
        assert!(responses.contains(&format!("{:?}", code.as_str())), "{code:?}");
    }
    let ids: BTreeSet<_> = routes.iter().map(|route| route.operation.id).collect();
    assert_eq!(ids.len(), routes.len(), "each has an id of its own");
}

/// Every schema in the document with an example: where it is, and the example.
fn examples(document: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    let (names, members): (Vec<_>, Vec<_>) = match document.pointer(at).unwrap() {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).unzip(),
        Value::Array(items) => items.iter().enumerate().map(|(n, value)| (n.to_string(), value)).unzip(),
        _ => return,
    };
    for (name, value) in names.iter().zip(members) {
        match (name.as_str(), value) {
            ("example", _) => found.push((format!("{at}/schema"), value.clone())),
            ("examples", Value::Array(several)) => {
                found.extend(several.iter().map(|example| (at.to_owned(), example.clone())));
            }
            _ => examples(document, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found),
        }
    }
}

#[test]
fn examples_are_as_their_schemas_say() {
    let document = document();
    let mut found = Vec::new();
    examples(&document, "", &mut found);
    assert!(found.len() > 40, "{}", found.len());
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("http://localhost/openapi.json", document).unwrap();
    for (at, example) in found {
        let place = format!("http://localhost/openapi.json#{}", at.replace('{', "%7B").replace('}', "%7D"));
        let schema = compiler.compile(&place, &mut schemas).unwrap_or_else(|error| panic!("{at}: {error}"));
        schemas.validate(&example, schema).unwrap_or_else(|error| panic!("{at}: {example}: {error:#}"));
    }
}
