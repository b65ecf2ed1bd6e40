//! What `log.level` and `RUST_LOG` say.

use tracing_subscriber::filter::Targets;

/// Reads a level (`info`), or levels by module with commas between (`info,rtm_bridge::rtm=debug`).
/// `None` if it is neither.
pub fn log_filter(text: &str) -> Option<Targets> {
    let directives: Vec<&str> =
        text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    // Whatever it can't read, the library takes for a module's name.
    let is_readable =
        |directive: &&str| directive.chars().all(|c| c.is_ascii_alphanumeric() || "_-:=".contains(c));
    if directives.is_empty() || !directives.iter().all(is_readable) {
        return None;
    }
    directives.join(",").parse().ok()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_levels_by_module() {
        let filter = log_filter("info, rtm_bridge::rtm=debug,").unwrap();
        assert!(filter.would_enable("hyper", &Level::INFO));
        assert!(!filter.would_enable("hyper", &Level::DEBUG));
        assert!(filter.would_enable("rtm_bridge::rtm::session", &Level::DEBUG));
        assert!(!filter.would_enable("rtm_bridge::rtm::session", &Level::TRACE));
        assert!(!log_filter("off").unwrap().would_enable("rtm_bridge", &Level::ERROR));
        assert!(log_filter("WARN").unwrap().would_enable("rtm_bridge", &Level::WARN));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", " , ", "a=b=c", "a=loud", "rtm_bridge[span]=debug", "rtm bridge=debug", "info;b=debug"]
        {
            assert_eq!(log_filter(text), None, "{text:?}");
        }
    }
}
