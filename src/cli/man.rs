//! `rtm-bridge man`: the manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use super::{CommandError, output};

const AFTER_HELP: &str = "\
Examples:
  rtm-bridge man | man -l -                        read the first page
  rtm-bridge man --all /usr/local/share/man/man1   install all pages";

/// What it takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Write a page for each command into this directory, in place of printing the first
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
}

/// Prints the page of the whole, or writes all of them.
pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let command = super::Arguments::command();
    let Some(directory) = &arguments.all else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(CommandError::failed)?;
        return output::line(String::from_utf8_lossy(&page).trim_end());
    };
    clap_mangen::generate_to(command, directory).map_err(|error| {
        let directory = crate::webhook::visible(&directory.to_string_lossy());
        CommandError::failed(format!("error: the pages can't be written to {directory}: {error}"))
    })
}
