//! Everything on `listen.client`: one list of routes, REST and the socket, each led to its handler. Decides nothing.
//! How every request is treated alike is in `http::edge`.

use axum::{
    Router,
    routing::{delete, get, patch, post},
};
use protocol::{Code, Error};

use crate::{
    app::App,
    http::{
        auth, conversations,
        edge::{self, Edge},
        messages, openapi, presence,
        refusal::Refusal,
        users,
    },
    ws,
};

/// Who comes before the stores are there is told to come back after this.
const COME_BACK_MS: u64 = 1000;

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        fn routes() -> Router<App> {
            Router::new()$(.route($path, $method($handler)))*
        }

        #[cfg(test)]
        const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),*];
    };
}

routes! {
    post   "/v1/auth/register"                          => auth::register,
    post   "/v1/auth/login"                             => auth::login,
    post   "/v1/auth/refresh"                           => auth::refresh,
    post   "/v1/auth/logout"                            => auth::logout,
    post   "/v1/auth/logout-others"                     => auth::logout_others,
    post   "/v1/auth/password"                          => auth::change_password,
    post   "/v1/auth/ticket"                            => auth::ticket,
    get    "/v1/auth/sessions"                          => auth::sessions,
    delete "/v1/auth/sessions/{id}"                     => auth::end_session,

    get    "/v1/users/me"                               => users::me,
    patch  "/v1/users/me"                               => users::change_me,
    delete "/v1/users/me"                               => users::delete_me,
    get    "/v1/users/{id}"                             => users::one,
    get    "/v1/users"                                  => users::find,

    post   "/v1/conversations"                          => conversations::create,
    get    "/v1/conversations"                          => conversations::list,
    get    "/v1/conversations/{id}"                     => conversations::one,
    patch  "/v1/conversations/{id}"                     => conversations::change,
    get    "/v1/conversations/{id}/members"             => conversations::members,
    post   "/v1/conversations/{id}/members"             => conversations::add_members,
    patch  "/v1/conversations/{id}/members/{user}"      => conversations::change_role,
    delete "/v1/conversations/{id}/members/{user}"      => conversations::remove_member,
    get    "/v1/conversations/{id}/messages"            => messages::history,
    post   "/v1/conversations/{id}/messages"            => messages::send,
    post   "/v1/conversations/{id}/read"                => messages::read,

    get    "/v1/presence"                               => presence::states,

    get    "/v1/ws"                                     => ws::upgrade,
    get    "/v1/openapi.json"                           => openapi::document,
    get    "/.well-known/jwks.json"                     => auth::jwks,
}

/// Everything on `listen.client`.
pub(crate) fn router(app: App, edge: Edge) -> Router {
    edge::around(routes().with_state(app), edge)
}

/// The same while the stores are not there yet: whoever comes hears so at once, sockets too.
pub(crate) fn waiting(edge: Edge) -> Router {
    let away = || Error::new(Code::Unavailable, "this node waits for its stores").after_ms(COME_BACK_MS);
    edge::around(Router::new().fallback(async move || Refusal(away())), edge)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_openapi_document_and_the_list_of_routes_name_the_same() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let listed: BTreeSet<String> = ROUTES.iter().map(|(method, path)| format!("{method} {path}")).collect();
        let paths = document["paths"].as_object().unwrap().iter();
        let described: BTreeSet<String> = paths
            .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |m| format!("{m} {path}")))
            .filter(|line| !line.starts_with("parameters "))
            .collect();
        assert_eq!(listed, described);
    }

    #[test]
    fn every_reference_in_the_openapi_document_leads_somewhere() {
        fn walk(node: &serde_json::Value, root: &serde_json::Value) {
            if let Some(pointer) = node.get("$ref").and_then(|r| r.as_str()) {
                assert!(root.pointer(pointer.trim_start_matches('#')).is_some(), "{pointer}");
            }
            match node {
                serde_json::Value::Object(map) => map.values().for_each(|value| walk(value, root)),
                serde_json::Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        walk(&document, &document);
    }
}
