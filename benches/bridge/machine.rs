//! The machine that the figures are of.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::FileExt as _,
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

/// What the disk alone takes at a pace: so many times a second 512 bytes written into a file that has its size
/// already, and synced. From when each was to begin, since one that takes long holds up those behind it.
pub fn paced_commits(directory: &Path, count: usize, per_second: f64) -> Outcome<Spread> {
    let block = [0x55; 512];
    let file = tempfile::tempfile_in(directory)?;
    file.write_all_at(&vec![0; count * block.len()], 0)?;
    file.sync_all()?;
    let started = Instant::now();
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let begin = started + Duration::from_secs_f64(number as f64 / per_second);
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        file.write_all_at(&block, (number * block.len()) as u64)?;
        file.sync_data()?;
        times.push(nanos(begin.elapsed()));
    }
    Ok(Spread::new(times))
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
