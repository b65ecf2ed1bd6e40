//! What a large file costs the running program.

use rtm_bridge::sandbox::{Endpoint, Fault, FaultKind};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{World, within};

const MIB: usize = 1024 * 1024;
/// What a file may cost, whatever its size: its chunk, the buffers on both sides of it, and some room.
const BOUND: u64 = 10 * MIB as u64;

/// The most memory that a process had at once, in bytes.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Uploads a file of so many bytes in a form, and gives the answer's status line.
async fn upload(world: &World, size: usize) -> String {
    let head = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n";
    let tail = "\r\n--b--\r\n";
    let request = format!(
        "POST /v1/users/alice/attachments HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{head}",
        head.len() + size + tail.len()
    );
    let mut caller = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    let mut answer = String::new();
    within("the upload", async {
        caller.write_all(request.as_bytes()).await.unwrap();
        let piece = vec![b'x'; MIB];
        let mut left = size;
        while left > 0 {
            let now = left.min(MIB);
            caller.write_all(&piece[..now]).await.unwrap();
            left -= now;
        }
        caller.write_all(tail.as_bytes()).await.unwrap();
        caller.read_to_string(&mut answer).await.unwrap();
    })
    .await;
    answer.lines().next().unwrap_or_default().to_owned()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_large_file_costs_the_memory_of_a_chunk() {
    let world = World::start().await;
    let process = world.daemon.child.id().unwrap();
    let control = world.sandbox.control();
    // What is needed once, for the first of all, is not the file's.
    assert_eq!(upload(&world, MIB + 1).await, "HTTP/1.1 200 OK");
    let before = peak(process);
    // A caller who is faster than the platform.
    control.inject(Fault::always(FaultKind::Delay { at: Endpoint::FileChunk, ms: 20 }));
    assert_eq!(upload(&world, 25 * MIB).await, "HTTP/1.1 200 OK");
    let cost = peak(process) - before;
    assert_eq!(control.uploads()[1].size, 25 * MIB);
    assert!(cost < BOUND, "{} KiB", cost / 1024);
    assert_eq!(world.daemon.interrupt().await, Some(0));
}
