//! As much of HTTP/1.1 as these programs say to each other: heads, bodies with a length, kept
//! connections.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A request or an answer.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The first line and the fields.
    pub head: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first line's second word: a request's target, an answer's status.
    pub fn second_word(&self) -> &'a str {
        self.head.split_whitespace().nth(1).unwrap_or_default()
    }

    /// A field's value; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        field(self.head, name)
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer was given away, and can be overwritten.
    used: usize,
}

impl Conversation {
    /// Speaks on this connection.
    pub fn on(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096), used: 0 })
    }

    /// Opens a connection.
    pub async fn with(address: SocketAddr) -> io::Result<Self> {
        Self::on(TcpStream::connect(address).await?)
    }

    /// Writes something, all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next request or answer; none when the other end is done.
    pub async fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let (head, length) = loop {
            if let Some(whole) = whole(&self.buffer)? {
                break whole;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        self.used = head + length;
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(io::Error::other)?;
        Ok(Some(Message { head: text, body: &self.buffer[head..head + length] }))
    }

    /// The connection itself, for what comes after HTTP, and what was read of that already.
    pub fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.buffer.drain(..self.used);
        (self.stream, self.buffer)
    }
}

/// The lengths of head and body, once both are there.
fn whole(buffer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let head = end + 4;
    let text = std::str::from_utf8(&buffer[..head]).map_err(io::Error::other)?;
    let length = match field(text, "content-length") {
        Some(length) => length.parse().map_err(io::Error::other)?,
        None => 0,
    };
    Ok((buffer.len() >= head + length).then_some((head, length)))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
