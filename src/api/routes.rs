//! What there is: every route of the API with its handler.
//!
//! A new route is a line below, and a function of the handler's name in its room's `described`, which says how
//! `openapi.json` shows it. Without that the tests don't compile, and what it says is held against what the route
//! answers ([`super::openapi`]). Then write the file anew: `UPDATE_OPENAPI=1 cargo test --lib openapi_json`.

use axum::{Router, routing};

use super::{
    ApiState, attachments, dead_letters, events, history, message_list, messages, openapi, signals, users,
    webhooks,
};

/// A route, as `openapi.json` shows it.
#[cfg(test)]
pub(super) struct Described {
    pub method: &'static str,
    pub path: &'static str,
    pub operation: super::openapi::Operation,
}

macro_rules! routes {
    ($(
        $(#[$about:meta])*
        $group:ident, under $prefix:literal {
            $($method:ident $path:literal => $room:ident::$handler:ident,)+
        }
    )+) => {
        $(
            $(#[$about])*
            pub(super) fn $group() -> Router<ApiState> {
                Router::new()$(.route(concat!($prefix, $path), routing::$method($room::$handler)))+
            }
        )+

        /// All of them, in this order.
        #[cfg(test)]
        pub(super) fn described() -> Vec<Described> {
            vec![$($(Described {
                method: stringify!($method),
                path: concat!($prefix, $path),
                operation: $room::described::$handler(),
            }),+),+]
        }
    };
}

routes! {
    /// For callers with a token, at both listeners.
    v1, under "/v1" {
        post "/users/{user}/messages" => messages::send,
        get "/users/{user}/messages" => message_list::list,
        get "/users/{user}/messages/{id}" => messages::show,
        post "/users/{user}/attachments" => attachments::upload,
        post "/users/{user}/typing" => signals::typing,
        post "/users/{user}/receipts" => signals::receipt,
        post "/users/{user}/agent-session/close" => signals::close_agent_session,
        post "/users/{user}/session/close" => signals::close_session,
        get "/users/{user}/events" => events::inbox,
        get "/events" => events::tail,
        get "/users/{user}/history" => history::show,
        get "/users" => users::list,
        get "/users/{user}" => users::show,
        post "/users/{user}/reconnect" => users::reconnect,
        get "/webhooks" => webhooks::list,
        post "/webhooks/{name}/enable" => webhooks::enable,
        get "/dead-letters" => dead_letters::list,
        delete "/dead-letters" => dead_letters::remove_all,
        post "/dead-letters/replay" => dead_letters::replay_all,
        get "/dead-letters/{id}" => dead_letters::show,
        delete "/dead-letters/{id}" => dead_letters::remove,
        post "/dead-letters/{id}/replay" => dead_letters::replay,
    }

    /// For everyone who reaches the API's listener.
    open, under "" {
        get "/openapi.json" => openapi::show,
    }
}
