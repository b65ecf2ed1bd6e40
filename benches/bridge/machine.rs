//! The machine that the figures are of.

use std::{
    fmt, fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{Outcome, kernel, stats::Spread};

/// How often the disk is tried.
const SYNCS: usize = 400;

/// What decides about figures.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    memory_mi_b: u64,
    /// 512 bytes appended and synced, on the disk that the stores are on: median and p99.
    commit_ms: f64,
    commit_p99_ms: f64,
    build: &'static str,
}

impl Machine {
    /// Looks around; the disk is that of `directory`.
    pub fn look(directory: &Path) -> Outcome<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, name: &str| {
            let value =
                text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kibibytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let commits = commits(directory)?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: line(&read("/proc/cpuinfo"), "model name"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mi_b: kibibytes / 1024,
            commit_ms: commits.p50(),
            commit_p99_ms: commits.p99(),
            build: if cfg!(debug_assertions) { "debug: figures mean nothing" } else { "release" },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, memory_mi_b, commit_ms, commit_p99_ms, build } = self;
        writeln!(f, "machine: {cores} cores of {processor}, {memory_mi_b} MiB, Linux {kernel}")?;
        writeln!(f, "disk:    append and fdatasync {commit_ms:.3} ms (median), {commit_p99_ms:.3} ms (p99)")?;
        write!(f, "build:   {build}; {} descriptors a process", kernel::descriptor_limit())
    }
}

/// What a commit costs the disk: 512 bytes appended and synced.
pub fn commits(directory: &Path) -> Outcome<Spread> {
    let mut file = tempfile::tempfile_in(directory)?;
    let block = [0x55; 512];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(nanos(started.elapsed()));
    }
    Ok(Spread::new(times))
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}
