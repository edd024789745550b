//! What is allocated, counted while somebody asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The system's allocator. Nothing is counted unless it is asked for: other rows pay one load for each allocation.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ASKED: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

/// A span in which every thread's allocations count.
pub(crate) struct Span {
    before: i64,
}

impl Span {
    pub(crate) fn begin() -> Self {
        let span = Self { before: LIVE.load(Ordering::SeqCst) };
        ASKED.store(true, Ordering::SeqCst);
        span
    }

    /// How many bytes more are allocated than when it began.
    pub(crate) fn bytes(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let bytes = (LIVE.load(Ordering::SeqCst) - self.before) as f64;
        bytes
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        ASKED.store(false, Ordering::SeqCst);
    }
}

fn note(allocated: usize, freed: usize) {
    if ASKED.load(Ordering::Relaxed) {
        LIVE.fetch_add(allocated.cast_signed() as i64 - freed.cast_signed() as i64, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator can only be written so; each call is handed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}
