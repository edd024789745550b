//! Leading and following a flight: the duty to answer it, the wait for its answer, and how one becomes the other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::flight::{Flight, Phase};
use super::in_flight::{Kind, Place, Slot, Stamp, Turn, Watch};
use crate::protection::Protection;

/// The right and duty to answer a flight. Dropped without an answer, it hands the flight to a follower.
pub(crate) struct Lead<T: Clone> {
    watch: Watch<T>,
    kind: Kind,
    flight: Arc<Flight<T>>,
    landed: bool,
}

impl<T: Clone> Lead<T> {
    pub(super) fn new(watch: Watch<T>, kind: Kind, flight: Arc<Flight<T>>) -> Self {
        Self { watch, kind, flight, landed: false }
    }

    pub(crate) fn watch(&mut self) -> &mut Watch<T> {
        &mut self.watch
    }

    /// Gives every follower `answer`.
    pub(crate) fn land(mut self, answer: &T) {
        self.landed = true;
        let (kind, flight) = (self.kind, Arc::clone(&self.flight));
        self.watch.release(|slot| {
            slot.detach(kind, &flight);
        });
        flight.land(answer);
    }
}

impl<T: Clone> Drop for Lead<T> {
    fn drop(&mut self) {
        if self.landed || !Protection::HandOver.is_on() {
            return;
        }
        let wakers = self.watch.place.with_slot(|slot| {
            if !slot.is_attached(self.kind, &self.flight) {
                return None;
            }
            let (followed, wakers) = self.flight.vacate();
            if !followed {
                slot.detach(self.kind, &self.flight);
            }
            Some(wakers)
        });
        match wakers.flatten() {
            Some(wakers) => wakers.into_iter().for_each(Waker::wake),
            None => self.flight.dissolve(),
        }
    }
}

/// A caller that waits for a flight's answer, and may have to lead it.
pub(crate) struct Follower<T: Clone> {
    place: Place<T>,
    kind: Kind,
    flight: Arc<Flight<T>>,
    seat: usize,
    joined: Stamp,
    ended: bool,
}

impl<T: Clone> Follower<T> {
    pub(super) fn new(place: Place<T>, kind: Kind, flight: Arc<Flight<T>>, joined: Stamp) -> Self {
        let seat = flight.follow();
        Self { place, kind, flight, seat, joined, ended: false }
    }

    /// Leads the vacant flight, with the key's stamp as it is now; `None` if another follower was faster.
    fn take_over(&mut self) -> Option<Turn<T>> {
        let mut shard = self.place.table.shard(self.place.hash);
        let attached = shard
            .0
            .find_mut(self.place.hash, |slot| *slot.key == *self.place.key)
            .filter(|slot| slot.is_attached(self.kind, &self.flight));
        let Some(slot) = attached else {
            // Revoked meanwhile: a newer flight may be under way, and this one has no right to fill.
            return self.flight.dissolve_vacant().then_some(Turn::Again);
        };
        if !self.flight.take_over(self.seat) {
            return None;
        }
        let mut watch = self.place.table.watch_slot(slot, self.place.hash);
        if !Protection::FreshStampAtHandOver.is_on() {
            watch.stamp = self.joined;
        }
        Some(Turn::Lead(Lead::new(watch, self.kind, Arc::clone(&self.flight))))
    }
}

impl<T: Clone> Future for Follower<T> {
    type Output = Turn<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn<T>> {
        loop {
            let turn = match self.flight.poll(self.seat, context.waker()) {
                Phase::Led => return Poll::Pending,
                Phase::Landed(answer) => Some(Turn::Landed(answer)),
                Phase::Dissolved => Some(Turn::Again),
                Phase::Vacant => self.take_over(),
            };
            if let Some(turn) = turn {
                self.ended = true;
                return Poll::Ready(turn);
            }
        }
    }
}

impl<T: Clone> Drop for Follower<T> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut shard = self.place.table.shard(self.place.hash);
        if self.flight.leave(self.seat) {
            let detach = |slot: &mut Slot<T>| slot.detach(self.kind, &self.flight);
            self.place.table.update(&mut shard, &self.place.key, self.place.hash, detach);
        }
    }
}
