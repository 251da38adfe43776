//! Fair queues: requests of a level that wait, served in the order in which they would finish if every flow were
//! served at the same rate (`fairqueuing/queueset`). Knows no clock and no tasks.

use std::collections::VecDeque;
use std::time::Instant;

/// How long a request is thought to take before it is known, in seconds.
const GUESS: f64 = 0.003;

/// One request that waits; `P` is how to tell it.
pub(super) struct Waiting<P> {
    pub id: u64,
    pub width: u32,
    pub place: P,
}

struct Queue<P> {
    waiting: VecDeque<Waiting<P>>,
    /// Seats that requests of this queue hold.
    executing: u32,
    /// The virtual time at which its next request begins.
    next_start: f64,
}

/// The queues of a level, with the seats they share.
pub(super) struct Queues<P> {
    queues: Vec<Queue<P>>,
    /// Virtual time: how much service each busy queue would have got.
    virtual_now: f64,
    at: Instant,
    in_use: u32,
    waiting_seats: u32,
    waiting: usize,
    next_id: u64,
}

impl<P> Queues<P> {
    pub fn new(count: usize, now: Instant) -> Queues<P> {
        let mut queues = Queues {
            queues: Vec::new(),
            virtual_now: 0.0,
            at: now,
            in_use: 0,
            waiting_seats: 0,
            waiting: 0,
            next_id: 0,
        };
        queues.grow(count);
        queues
    }

    /// At least so many queues; those beyond a smaller number drain.
    pub fn grow(&mut self, count: usize) {
        let virtual_now = self.virtual_now;
        self.queues.resize_with(self.queues.len().max(count), || Queue {
            waiting: VecDeque::new(),
            executing: 0,
            next_start: virtual_now,
        });
    }

    /// Seats in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Seats in use or waited for.
    pub fn demand(&self) -> u32 {
        self.in_use + self.waiting_seats
    }

    /// Queues with something to do.
    pub fn active(&self) -> usize {
        self.queues.iter().filter(|queue| queue.is_active()).count()
    }

    /// Virtual time goes on as fast as each busy queue is served.
    fn advance(&mut self, now: Instant, limit: u32) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let active = self.active();
        if active > 0 {
            let served = self.demand().min(limit);
            self.virtual_now += seconds * f64::from(served) / active as f64;
        }
    }

    /// Whether so many seats are free; a request wider than the limit may run alone.
    fn fits(&self, width: u32, limit: u32) -> bool {
        self.in_use + width <= limit || (self.in_use == 0 && limit > 0)
    }

    /// Takes seats at once, if nobody waits and they are free.
    pub fn seat_at_once(&mut self, width: u32, limit: u32) -> bool {
        let fits = self.waiting == 0 && self.fits(width, limit);
        if fits {
            self.in_use += width;
        }
        fits
    }

    /// Puts a request into the shortest queue of a hand; gives its id and the queue's length with it, or nothing if
    /// that queue is full.
    pub fn enqueue(
        &mut self,
        hand: &[usize],
        width: u32,
        longest: usize,
        place: P,
        now: Instant,
        limit: u32,
    ) -> Option<(u64, usize)> {
        self.advance(now, limit);
        let virtual_now = self.virtual_now;
        let shortest = hand.iter().copied().min_by_key(|at| self.queues[*at].load())?;
        let queue = &mut self.queues[shortest];
        if queue.waiting.len() >= longest {
            return None;
        }
        if !queue.is_active() {
            queue.next_start = queue.next_start.max(virtual_now);
        }
        let id = self.next_id;
        self.next_id += 1;
        queue.waiting.push_back(Waiting { id, width, place });
        let length = queue.waiting.len();
        self.waiting += 1;
        self.waiting_seats += width;
        Some((id, length))
    }

    /// Forgets a request that gave up.
    pub fn forget(&mut self, id: u64) {
        for queue in &mut self.queues {
            if let Some(at) = queue.waiting.iter().position(|waiting| waiting.id == id) {
                let gone = queue.waiting.remove(at);
                self.waiting -= 1;
                self.waiting_seats -= gone.map_or(0, |waiting| waiting.width);
                return;
            }
        }
    }

    /// The next request that can run now, with its queue.
    pub fn next(&mut self, now: Instant, limit: u32) -> Option<(usize, Waiting<P>)> {
        if self.waiting == 0 {
            return None;
        }
        self.advance(now, limit);
        let finish = |queue: &Queue<P>| {
            let head = queue.waiting.front()?;
            Some(queue.next_start + GUESS * f64::from(head.width))
        };
        let (at, _) = self
            .queues
            .iter()
            .enumerate()
            .filter_map(|(at, queue)| Some((at, finish(queue)?)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let width = self.queues[at].waiting.front()?.width;
        // Whoever is next waits for enough seats; others do not overtake it.
        if !self.fits(width, limit) {
            return None;
        }
        let waiting = self.queues[at].waiting.pop_front()?;
        self.queues[at].executing += width;
        self.queues[at].next_start += GUESS * f64::from(width);
        self.waiting -= 1;
        self.waiting_seats -= width;
        self.in_use += width;
        Some((at, waiting))
    }

    /// A request has ended: its seats are free, and its queue pays for the time it took.
    pub fn finish(&mut self, queue: Option<usize>, width: u32, seconds: f64, now: Instant, limit: u32) {
        self.advance(now, limit);
        self.in_use -= width;
        let Some(queue) = queue.and_then(|at| self.queues.get_mut(at)) else {
            return;
        };
        queue.executing -= width;
        queue.next_start += (seconds - GUESS) * f64::from(width);
    }
}

impl<P> Queue<P> {
    fn is_active(&self) -> bool {
        self.executing > 0 || !self.waiting.is_empty()
    }

    fn load(&self) -> u32 {
        self.executing + self.waiting.iter().map(|waiting| waiting.width).sum::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A flow of many requests does not hold up a flow of few.
    #[test]
    fn flows_take_turns() {
        let mut now = Instant::now();
        let mut queues: Queues<&str> = Queues::new(2, now);
        assert!(queues.seat_at_once(1, 1));
        for _ in 0..10 {
            queues.enqueue(&[0], 1, 50, "elephant", now, 1).unwrap();
        }
        for _ in 0..3 {
            queues.enqueue(&[1], 1, 50, "mouse", now, 1).unwrap();
        }
        queues.finish(None, 1, 0.1, now, 1);
        let mut order = Vec::new();
        while let Some((queue, waiting)) = queues.next(now, 1) {
            order.push(waiting.place);
            assert!(queues.next(now, 1).is_none(), "there is one seat");
            now += Duration::from_millis(100);
            queues.finish(Some(queue), 1, 0.1, now, 1);
        }
        assert_eq!(order.len(), 13);
        let mice = order[..6].iter().filter(|who| **who == "mouse").count();
        assert_eq!(mice, 3, "{order:?}");
        assert_eq!((queues.in_use(), queues.waiting(), queues.demand()), (0, 0, 0));
    }

    #[test]
    fn queues_are_bounded_and_can_be_left() {
        let now = Instant::now();
        let mut queues: Queues<u8> = Queues::new(1, now);
        assert!(queues.seat_at_once(1, 1));
        let (first, _) = queues.enqueue(&[0], 1, 2, 1, now, 1).unwrap();
        queues.enqueue(&[0], 1, 2, 2, now, 1).unwrap();
        assert!(queues.enqueue(&[0], 1, 2, 3, now, 1).is_none());
        queues.forget(first);
        queues.finish(None, 1, 0.0, now, 1);
        let (_, next) = queues.next(now, 1).unwrap();
        assert_eq!(next.place, 2);
    }

    #[test]
    fn a_wide_request_is_not_overtaken_and_runs_alone() {
        let now = Instant::now();
        let mut queues: Queues<u8> = Queues::new(2, now);
        assert!(queues.seat_at_once(1, 2));
        queues.enqueue(&[0], 10, 5, 1, now, 2).unwrap();
        assert!(!queues.seat_at_once(1, 2));
        assert!(queues.next(now, 2).is_none());
        queues.finish(None, 1, 0.0, now, 2);
        assert_eq!(queues.next(now, 2).unwrap().1.place, 1);
        assert_eq!(queues.in_use(), 10);
    }
}
