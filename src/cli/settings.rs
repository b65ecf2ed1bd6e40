//! The configuration, as commands load it.

use std::{fs, io, path::Path};

use super::CommandError;
use crate::{
    config::{Config, ProcessEnvironment, Warning},
    webhook::visible,
};

/// Loads the configuration; where there is no file, says how to come by one.
pub(super) fn load(file: &Path) -> Result<(Config, Vec<Warning>), CommandError> {
    if is_missing(file) {
        return Err(CommandError::Refused(format!(
            "{}\n  to look around first, without any configuration: rtm-bridge demo",
            missing(file)
        )));
    }
    Config::load(file, &ProcessEnvironment).map_err(CommandError::refused)
}

pub(super) fn is_missing(file: &Path) -> bool {
    fs::metadata(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// What to do when the configuration isn't there.
pub(super) fn missing(file: &Path) -> String {
    format!(
        "error: {}: there is no such file
  if it is elsewhere: name it with --config FILE or RTM_BRIDGE_CONFIG
  to write one: start from the bridge.toml that comes with rtm-bridge, and try it with rtm-bridge check",
        visible(&file.to_string_lossy())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_ways_out() {
        let Err(CommandError::Refused(why)) = load(Path::new("no\u{1b}where/bridge.toml")) else {
            panic!("there is no such file")
        };
        insta::assert_snapshot!(why, @r"
        error: no\u{1b}where/bridge.toml: there is no such file
          if it is elsewhere: name it with --config FILE or RTM_BRIDGE_CONFIG
          to write one: start from the bridge.toml that comes with rtm-bridge, and try it with rtm-bridge check
          to look around first, without any configuration: rtm-bridge demo
        ");
    }
}
