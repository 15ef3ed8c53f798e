//! Orders to do things in: given ones, and shuffled ones that are the same in every run.

/// 0, 1, 2 ... `count` - 1, shuffled by `seed` (Fisher and Yates, with xorshift64 as the source).
pub(crate) fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    // The odd factor spreads neighbouring seeds; the source must not start at 0.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for last in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let chosen = usize::try_from(state % (last as u64 + 1)).unwrap_or(last);
        order.swap(chosen, last);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_is_the_same_each_time() {
        let order = shuffled(8, 42);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order, shuffled(8, 42));
        assert_ne!(order, shuffled(8, 43));
    }
}
