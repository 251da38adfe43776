//! Shuffle sharding: a flow's hand of queues, the same at every request (`util/shufflesharding`).

/// The queues that a flow may use: `hand` different ones of `deck`, picked by the flow's hash.
pub(super) fn deal(mut hash: u64, deck: usize, hand: usize) -> Vec<usize> {
    let hand = hand.clamp(1, deck.max(1));
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    for dealt in 0..hand {
        let left = (deck.max(1) - dealt) as u64;
        // The nth card among those that are left.
        let mut card = (hash % left) as usize;
        hash /= left;
        let mut sorted = cards.clone();
        sorted.sort_unstable();
        for taken in sorted {
            if card >= taken {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_hold_different_cards_of_the_deck() {
        for hash in [0, 1, 12_345_678_901_234_567, u64::MAX] {
            let mut hand = deal(hash, 64, 6);
            assert!(hand.iter().all(|card| *card < 64));
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 6, "{hash}");
        }
        assert_eq!(deal(7, 1, 6), [0]);
        let mut all = deal(99, 4, 4);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }
}
