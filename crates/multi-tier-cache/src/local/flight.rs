//! One answer for many callers: the state of a flight, without I/O and without a runtime.
//!
//! A flight is led by one caller and followed by any number. It ends when its leader lands it with an answer. A
//! leader that goes away without one leaves the flight vacant and wakes every follower: the first that is polled
//! leads in its place, the others go on waiting. (Waking all of them, not one: a follower that is woken but never
//! polled again must not hold up the rest.)

use std::task::Waker;

use crate::sync::{Mutex, MutexGuard};

#[derive(Debug)]
pub(crate) struct Flight<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    phase: Phase<T>,
    seats: Vec<Seat>,
    free: Vec<usize>,
}

#[derive(Debug)]
enum Seat {
    Free,
    Taken(Option<Waker>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase<T> {
    /// A leader is at work.
    Led,
    /// The leader went away; a follower may take its place.
    Vacant,
    /// Landed with an answer.
    Landed(T),
    /// Nobody may lead it any more; its followers start over.
    Dissolved,
}

impl<T: Clone> Flight<T> {
    pub(crate) fn led() -> Self {
        Self(Mutex::new(State { phase: Phase::Led, seats: Vec::new(), free: Vec::new() }))
    }

    /// Takes a seat as a follower.
    pub(crate) fn follow(&self) -> usize {
        let mut state = self.0.lock();
        let seat = state.free.pop().unwrap_or(state.seats.len());
        match state.seats.get_mut(seat) {
            Some(free) => *free = Seat::Taken(None),
            None => state.seats.push(Seat::Taken(None)),
        }
        seat
    }

    /// The phase; while it is `Led`, `waker` is woken when that changes.
    pub(crate) fn poll(&self, seat: usize, waker: &Waker) -> Phase<T> {
        let mut state = self.0.lock();
        if matches!(state.phase, Phase::Led)
            && let Some(Seat::Taken(known)) = state.seats.get_mut(seat)
            && !known.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            *known = Some(waker.clone());
        }
        state.phase.clone()
    }

    /// Leads a vacant flight from this seat, which becomes free; false if somebody was faster.
    pub(crate) fn take_over(&self, seat: usize) -> bool {
        let mut state = self.0.lock();
        let vacant = matches!(state.phase, Phase::Vacant);
        if vacant {
            state.phase = Phase::Led;
            state.vacate_seat(seat);
        }
        vacant
    }

    /// A follower gives up; true if that leaves the flight with neither leader nor followers.
    pub(crate) fn leave(&self, seat: usize) -> bool {
        let mut state = self.0.lock();
        state.vacate_seat(seat);
        matches!(state.phase, Phase::Vacant) && !state.has_followers()
    }

    /// The leader goes away without an answer: whether somebody may still take its place, and whom to wake once no
    /// lock is held.
    pub(crate) fn vacate(&self) -> (bool, Vec<Waker>) {
        let mut state = self.0.lock();
        let followed = state.has_followers();
        state.phase = if followed { Phase::Vacant } else { Phase::Dissolved };
        (followed, state.take_wakers())
    }

    /// Ends a flight, which nobody can join any more, with an answer for its followers.
    pub(crate) fn land(&self, answer: &T) {
        let state = self.0.lock();
        // Most have none.
        let phase = if state.has_followers() { Phase::Landed(answer.clone()) } else { Phase::Dissolved };
        Self::end(state, phase);
    }

    /// Ends a flight that nobody may lead any more.
    pub(crate) fn dissolve(&self) {
        Self::end(self.0.lock(), Phase::Dissolved);
    }

    /// Ends a flight that nobody leads; false if somebody does or it has ended.
    pub(crate) fn dissolve_vacant(&self) -> bool {
        let mut state = self.0.lock();
        let vacant = matches!(state.phase, Phase::Vacant);
        if vacant {
            state.phase = Phase::Dissolved;
        }
        vacant
    }

    fn end(mut state: MutexGuard<'_, State<T>>, phase: Phase<T>) {
        state.phase = phase;
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<T> State<T> {
    fn vacate_seat(&mut self, seat: usize) {
        if let Some(taken @ Seat::Taken(_)) = self.seats.get_mut(seat) {
            *taken = Seat::Free;
            self.free.push(seat);
        }
    }

    fn has_followers(&self) -> bool {
        self.seats.len() > self.free.len()
    }

    fn take_wakers(&mut self) -> Vec<Waker> {
        let taken = |seat: &mut Seat| if let Seat::Taken(waker) = seat { waker.take() } else { None };
        self.seats.iter_mut().filter_map(taken).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacant_flight_is_taken_over_once() {
        let flight = Flight::<u8>::led();
        let (first, second) = (flight.follow(), flight.follow());
        assert!(flight.vacate().0);
        assert!(flight.take_over(second));
        assert!(!flight.take_over(first));
        flight.land(&7);
        assert_eq!(flight.poll(first, Waker::noop()), Phase::Landed(7));
    }

    #[test]
    fn a_flight_without_followers_dissolves_with_its_leader() {
        let flight = Flight::<u8>::led();
        let seat = flight.follow();
        assert!(!flight.leave(seat));
        assert!(!flight.vacate().0);
        assert_eq!(flight.poll(0, Waker::noop()), Phase::Dissolved);
    }

    #[test]
    fn the_last_follower_of_a_vacant_flight_reports_it() {
        let flight = Flight::<u8>::led();
        let (first, second) = (flight.follow(), flight.follow());
        flight.vacate();
        assert!(!flight.leave(first));
        assert!(flight.leave(second));
    }
}
