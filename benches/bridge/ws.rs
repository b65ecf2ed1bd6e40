//! WebSocket frames as a server reads and writes them, without fragments and extensions.

use std::io;

/// What a client's frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Close,
    Ping,
    Other,
}

/// A client's frame at the start of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    pub kind: Kind,
    /// Where its payload begins and ends; it is in the clear now.
    pub payload: (usize, usize),
}

/// Reads the frame at this place of a buffer, and takes the mask off; none until all of it is there.
pub fn read(buffer: &mut [u8], at: usize) -> io::Result<Option<Incoming>> {
    let rest = &mut buffer[at..];
    let &mut [first, second, ..] = rest else { return Ok(None) };
    let (extended, length) = match (second & 0x7f, &*rest) {
        (126, &[_, _, high, low, ..]) => (2, usize::from(u16::from_be_bytes([high, low]))),
        (126, _) => return Ok(None),
        (127, _) => return Err(io::Error::other("a frame of 64 KiB and more")),
        (length, _) => (0, usize::from(length)),
    };
    if first & 0x80 == 0 || second & 0x80 == 0 {
        return Err(io::Error::other("a fragment, or a frame without a mask"));
    }
    let start = 2 + extended + 4;
    let Some(&[.., a, b, c, d]) = rest.get(..start) else { return Ok(None) };
    let Some(payload) = rest.get_mut(start..start + length) else { return Ok(None) };
    let mask = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut eights = payload.chunks_exact_mut(8);
    for eight in &mut eights {
        let masked = u64::from_ne_bytes((&*eight).try_into().expect("eight bytes"));
        eight.copy_from_slice(&(masked ^ mask).to_ne_bytes());
    }
    for (byte, mask) in eights.into_remainder().iter_mut().zip(mask.to_ne_bytes()) {
        *byte ^= mask;
    }
    let kind = match first & 0x0f {
        1 => Kind::Text,
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Other,
    };
    Ok(Some(Incoming { kind, payload: (at + start, at + start + length) }))
}

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outgoing {
    Text = 0x81,
    Close = 0x88,
    Pong = 0x8a,
}

/// Appends a frame.
pub fn write(out: &mut Vec<u8>, kind: Outgoing, payload: &[u8]) {
    out.push(kind as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..126), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend(length.to_be_bytes());
        }
        _ => unreachable!("nothing here sends frames of 64 KiB"),
    }
    out.extend_from_slice(payload);
}
