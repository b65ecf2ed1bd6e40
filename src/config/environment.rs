//! What a configuration takes from the process around it.

use std::{ffi::OsString, path::PathBuf};

/// Where variables come from, so that loading a configuration never depends on hidden state.
pub trait Environment {
    /// The value of an environment variable.
    fn var(&self, name: &str) -> Option<OsString>;

    /// systemd's `$CREDENTIALS_DIRECTORY`.
    fn credentials_dir(&self) -> Option<PathBuf> {
        self.var("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty()).map(PathBuf::from)
    }

    /// systemd's `$STATE_DIRECTORY`; the first, where the unit names several.
    fn state_dir(&self) -> Option<PathBuf> {
        let dirs = self.var("STATE_DIRECTORY")?;
        std::env::split_paths(&dirs).next().filter(|dir| !dir.as_os_str().is_empty())
    }
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<OsString> {
        // `var_os` panics on such names on some platforms, and no variable is called that.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Fake(HashMap<&'static str, &'static str>);
    impl Environment for Fake {
        fn var(&self, name: &str) -> Option<OsString> {
            self.0.get(name).map(OsString::from)
        }
    }

    #[test]
    fn the_first_state_directory_counts_and_empty_is_unset() {
        let env = Fake(HashMap::from([("STATE_DIRECTORY", "/a:/b"), ("CREDENTIALS_DIRECTORY", "")]));
        assert_eq!(env.state_dir(), Some("/a".into()));
        assert_eq!(env.credentials_dir(), None);
        assert_eq!(Fake(HashMap::from([("STATE_DIRECTORY", "")])).state_dir(), None);
    }

    #[test]
    fn no_name_makes_the_process_environment_panic() {
        for name in ["", "=", "a=b", "a\0b"] {
            assert_eq!(ProcessEnvironment.var(name), None);
        }
    }
}
