//! The status page at `/`: a document, a style sheet, scripts and an icon, as they stand in this folder.
//!
//! The page has no rights of its own: it shows `/counts`, which needs no token, and what `/v1` answers to its
//! reader's token. What is shown came from outside for the most part, so the headers allow nothing but these
//! files: no inline script or style, no other host, no frame around the page, no markup made from text.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

const FILES: [File; 8] = [
    File { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("page.html") },
    File { path: "/page.css", content_type: "text/css; charset=utf-8", text: include_str!("page.css") },
    File { path: "/page.svg", content_type: "image/svg+xml", text: include_str!("page.svg") },
    File { path: "/page.js", content_type: SCRIPT, text: include_str!("page.js") },
    File { path: "/page-ask.js", content_type: SCRIPT, text: include_str!("page-ask.js") },
    File { path: "/page-dialogs.js", content_type: SCRIPT, text: include_str!("page-dialogs.js") },
    File { path: "/page-live.js", content_type: SCRIPT, text: include_str!("page-live.js") },
    File { path: "/page-show.js", content_type: SCRIPT, text: include_str!("page-show.js") },
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // May be kept, but is asked for anew each time: a new version's script never meets an old document.
    (header::CACHE_CONTROL, "no-cache"),
];

/// A file of the page.
#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// The page's routes.
pub(super) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |routes, file| {
        let tag = file.tag();
        routes.route(file.path, get(async move |headers: HeaderMap| file.answer(&tag, &headers)))
    })
}

impl File {
    /// What changes when the text does.
    fn tag(&self) -> String {
        format!("\"{:08x}\"", crc32fast::hash(self.text.as_bytes()))
    }

    fn answer(&self, tag: &str, asked: &HeaderMap) -> Response {
        let tags = [(header::ETAG, tag)];
        if is_known(tag, asked) {
            return (StatusCode::NOT_MODIFIED, HEADERS, tags).into_response();
        }
        (HEADERS, tags, [(header::CONTENT_TYPE, self.content_type)], self.text).into_response()
    }
}

/// Whether the browser has this version. (A proxy that compresses makes the tag a weak one.)
fn is_known(tag: &str, asked: &HeaderMap) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',').map(str::trim));
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, known: Option<&str>) -> Response {
        let request =
            known.iter().fold(Request::get(path), |request, tag| request.header(header::IF_NONE_MATCH, *tag));
        routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_comes_with_its_headers_and_only_if_it_is_new() {
        for file in FILES {
            let first = ask(file.path, None).await;
            assert_eq!(first.status(), StatusCode::OK);
            assert_eq!(first.headers()[header::CONTENT_TYPE], file.content_type);
            for (name, value) in HEADERS {
                assert_eq!(first.headers()[&name], value, "{}", file.path);
            }
            let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
            assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), file.text);
            for known in [tag.clone(), format!("W/{tag}"), format!("\"0\", {tag}"), "*".to_owned()] {
                let again = ask(file.path, Some(&known)).await;
                assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
                assert_eq!(again.headers()[header::ETAG], *tag);
                assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());
            }
            assert_eq!(ask(file.path, Some("\"0\"")).await.status(), StatusCode::OK);
        }
    }

    #[test]
    fn the_policy_has_no_holes() {
        assert!(POLICY.starts_with("default-src 'none';"));
        for hole in ["unsafe", "data:", "blob:", "http", "*", "nonce"] {
            assert!(!POLICY.contains(hole), "{hole}");
        }
    }

    /// The browser enforces it (trusted types), where it knows how; this is for those that don't.
    #[test]
    fn the_scripts_make_no_markup_and_no_code_from_text() {
        const WAYS: [&str; 12] = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "setHTML",
            "srcdoc",
            "eval(",
            "Function(",
            "document.cookie",
            "localStorage",
        ];
        for script in FILES.iter().filter(|file| file.content_type == SCRIPT) {
            for way in WAYS {
                assert!(!script.text.contains(way), "{way} in {}", script.path);
            }
        }
    }

    #[test]
    fn nothing_is_asked_of_other_hosts() {
        for file in FILES {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for address in ["http:", "https:", "src=\"//", "url("] {
                assert!(!text.contains(address), "{address} in {}", file.path);
            }
        }
    }
}
