//! What the store calls users, webhooks and clients: small numbers, given once and for ever, so
//! that keys are short and a name that goes and comes back finds its records.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use serde::{Deserialize, Serialize};

/// A user's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserNumber(pub u32);

/// A webhook's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WebhookNumber(pub u32);

/// An API client's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientNumber(pub u32);

/// A bot's number in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BotNumber(pub u32);

/// Something for each of some users.
pub type ByUser<T> = HashMap<UserNumber, T, BuildHasherDefault<NumberHasher>>;

/// Hashes a number of the store's own, for the standard library's tables: the low bits say where it lies, so numbers
/// that follow each other lie side by side, as users do who are told of together; the seven highest tell those apart
/// that lie near each other. Nobody outside can choose the numbers, so no two are made to collide.
#[derive(Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        const HIGHEST: u64 = 0x7f << 57;
        let number = self.0 ^ u64::from(number);
        // 2^64 divided by the golden ratio: its multiples differ most in their highest bits.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = number & !HIGHEST | spread & HIGHEST;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
