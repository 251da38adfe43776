//! Choices from a seed (SplitMix64), so that a failure can be repeated.

pub struct Moments(u64);

impl Moments {
    pub fn from_seed(seed: u64) -> Moments {
        Moments(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// One of the numbers below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Another source, whose use does not disturb this one.
    pub fn fork(&mut self) -> Moments {
        Moments(self.next())
    }
}
