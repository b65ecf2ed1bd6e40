//! Asks the processor for memory before it is needed.
//!
//! What thousands of users have is in no cache when it is their turn, and to follow it from pointer to pointer is to wait for
//! memory each time. What is asked for at once comes at once, while the processor goes on.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "a hint by an address, which reads nothing and can't fail, whatever lies there"
    )
)]

/// What a processor fetches at once.
const LINE: usize = 64;
/// Where an [`Arc`](std::sync::Arc) keeps its counts: right before what it holds. They are asked for as well, since to clone
/// it is to change them.
const COUNTS: usize = 16;
/// So much is asked for. Whoever reads on from there is noticed by the processor itself.
const MOST: usize = 4096;

/// Asks for a value's lines, 4 KiB of them at most.
///
/// A hint: it changes nothing but how long the next touch takes, and is nothing at all on processors other than x86-64,
/// for which the language has none that is stable.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    let start = (&raw const *value).cast::<i8>();
    for line in lines(start.addr(), size_of_val(value)) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it is a hint, and may be given any address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start.with_addr(line));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// The addresses of the lines of what begins there and is so long.
fn lines(start: usize, length: usize) -> impl Iterator<Item = usize> {
    let first = start.saturating_sub(COUNTS) / LINE * LINE;
    (first..start + length.min(MOST)).step_by(LINE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_lines_of_a_value_and_of_its_counts_are_asked_for_and_no_other(start in 16_usize..10_000, length in 0_usize..=MOST) {
            let of_bytes = (start - COUNTS..start + length).map(|byte| byte / LINE * LINE);
            let mut expected: Vec<usize> = of_bytes.collect();
            expected.dedup();
            prop_assert_eq!(lines(start, length).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn of_what_is_large_the_beginning_is_asked_for_and_of_what_is_nothing_no_more_than_its_counts() {
        assert_eq!(lines(6400, 10 << 20).count(), 1 + MOST / LINE);
        assert_eq!(lines(1, 0).collect::<Vec<_>>(), [0], "an empty slice may be anywhere");
        prefetch::<[u8]>(&[]);
        prefetch(&vec![0_u8; 10 << 20][..]);
    }
}
