//! A role as a process: this program again, told what to do in its arguments.
//!
//! It says `{"ready": ...}` in a line, waits for a line, works, says what came of it in another line,
//! and ends when its input does: in between, the kernel knows what it used.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
};

use crate::{Outcome, kernel, roles::Role};

/// The argument before a role.
pub const ROLE: &str = "--role";
/// Nothing that a role does takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// A role's process. It doesn't outlive this value.
#[derive(Debug)]
pub struct Child {
    _process: Process,
    pid: u32,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// What it said when it was ready.
    pub ready: Value,
}

/// What a role did.
#[derive(Debug)]
pub struct Work {
    /// What it says of it.
    pub result: Value,
    /// From the start to that.
    pub took: Duration,
    /// CPU time that it used.
    pub cpu: Duration,
}

impl Child {
    /// Starts a role, and waits until it is ready.
    pub async fn start(role: &Role) -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ROLE, &serde_json::to_string(role)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().ok_or("the role ended at once")?;
        let input = process.stdin.take().ok_or("the role has no input")?;
        let output = process.stdout.take().ok_or("the role has no output")?;
        let mut output = BufReader::new(output).lines();
        let ready = line(&mut output).await?["ready"].take();
        Ok(Self { _process: process, pid, input, output, ready })
    }

    /// Lets it work, and waits for what comes of it.
    pub async fn work(&mut self) -> Outcome<Work> {
        let (cpu, started) = (self.cpu()?, Instant::now());
        self.input.write_all(b"go\n").await?;
        let result = line(&mut self.output).await?;
        Ok(Work { result, took: started.elapsed(), cpu: self.cpu()?.saturating_sub(cpu) })
    }

    /// Its CPU time so far.
    pub fn cpu(&self) -> Outcome<Duration> {
        kernel::cpu(self.pid)
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> Outcome<Value> {
    let line = tokio::time::timeout(LIMIT, output.next_line()).await??;
    Ok(serde_json::from_str(&line.ok_or("a role ended early")?)?)
}
