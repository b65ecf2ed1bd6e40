//! Ids in the platform's forms. They need to be unique, not unguessable: the sandbox keeps no secrets.

use std::sync::atomic::{AtomicU64, Ordering};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A random token of `len` characters that are safe in a URL.
pub(super) fn token(len: usize) -> String {
    (0..len).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect()
}

/// A random id such as `ms-12345678-9abc-def0-1234-56789abcdef0`.
pub(super) fn id(prefix: &str) -> String {
    format!("{prefix}-{}", uuid_text(fastrand::u128(..)))
}

/// The id of a message. Later ones sort behind earlier ones, so that messages of one millisecond
/// have an order for whoever sorts by time and id.
pub(super) fn message_id() -> String {
    static MADE: AtomicU64 = AtomicU64::new(1);
    let number = u128::from(MADE.fetch_add(1, Ordering::Relaxed)) << 64 | u128::from(fastrand::u64(..));
    format!("ms-{}", uuid_text(number))
}

/// Random lower-case hexadecimal digits.
pub(super) fn hex(len: usize) -> String {
    (0..len).map(|_| char::from(b"0123456789abcdef"[fastrand::usize(..16)])).collect()
}

/// A number in the shape of a UUID.
pub(super) fn uuid_text(number: u128) -> String {
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
