//! Has the program linked smaller, where the linker can: what the program's file loses, memory loses.
//!
//! Both are left out where they may not work, and the program is some hundred KiB larger then.

use std::{env, process::Command};

/// Rust's own linker (LLD) is the default from this version on, on this target.
const OWN_LINKER_SINCE: u32 = 90;
const OWN_LINKER_ON: &str = "x86_64-unknown-linux-gnu";
/// From this version on, the C library's loader reads relative relocations in their packed form.
const PACKED_RELOCATIONS_SINCE: u32 = 36;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if has_own_linker() {
        // One copy of functions whose code is the same.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    if loader_reads_packed_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn has_own_linker() -> bool {
    let told_another = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    let rustc = env::var("RUSTC").unwrap_or_default();
    let is_new =
        output(&rustc, "--version").is_some_and(|told| minor_version(&told) >= Some(OWN_LINKER_SINCE));
    is_target(OWN_LINKER_ON) && is_new && !told_another
}

/// As far as this machine tells: not of another one that it builds for.
fn loader_reads_packed_relocations() -> bool {
    let is_for_this_machine = env::var("HOST").is_ok_and(|host| is_target(&host));
    let version = output("getconf", "GNU_LIBC_VERSION");
    is_for_this_machine && version.is_some_and(|told| minor_version(&told) >= Some(PACKED_RELOCATIONS_SINCE))
}

fn is_target(triple: &str) -> bool {
    env::var("TARGET").is_ok_and(|target| target == triple)
}

fn output(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

/// The second number of the version behind a program's name.
fn minor_version(told: &str) -> Option<u32> {
    told.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}
