//! The manager with a kernel's own lock: a queue in which each CPU waits for a word of its own (MCS, in the form that
//! needs no node while the lock is held: a waiter's node is on its stack, and goes when it gets the lock).
//!
//! ```text
//!   tail   null: free    the lock itself: held, none waits    a node: the last that waits
//!   first  the node that waits the longest, once it has been linked
//! ```

// UNSAFETY: vouches for the exclusion, and for nodes on the stacks of waiters.
#![expect(unsafe_code)]

mod storm;

use hotmem::lock::lock_api::{GuardNoSend, RawMutex};
use std::ptr::{NonNull, from_ref, null_mut};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread::yield_now;

/// A CPU that waits.
#[derive(Debug)]
struct Node {
    waits: AtomicBool,
    next: AtomicPtr<Node>,
}

#[derive(Debug)]
struct Queue {
    tail: AtomicPtr<Node>,
    first: AtomicPtr<Node>,
}

impl Queue {
    /// The value of `tail` while a CPU holds the lock and none waits. It is compared, not followed.
    fn held(&self) -> *mut Node {
        from_ref(self).cast_mut().cast()
    }

    /// Waits behind `last`, which was the tail, if it still is. Returns whether this CPU holds the lock now.
    fn wait_behind(&self, last: *mut Node) -> bool {
        let node = Node { waits: AtomicBool::new(true), next: AtomicPtr::new(null_mut()) };
        let own = from_ref(&node).cast_mut();
        let joined =
            self.tail.compare_exchange(last, own, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !joined {
            return false;
        }
        if last == self.held() {
            self.first.store(own, Ordering::Release);
        } else {
            // SAFETY: the node is on the stack of a CPU in this function, which does not return before `next` is
            // set: the node is not the tail any more.
            unsafe { (*last).next.store(own, Ordering::Release) };
        }
        while node.waits.load(Ordering::Acquire) {
            yield_now();
        }
        self.leave(&node);
        true
    }

    /// Takes the node of the CPU that holds the lock now out of the queue.
    fn leave(&self, node: &Node) {
        let own = from_ref(node).cast_mut();
        let next = node.next.load(Ordering::Acquire);
        if !next.is_null() {
            self.first.store(next, Ordering::Release);
            return;
        }
        // In this order: a CPU that sees itself behind the holder sets `first` again.
        self.first.store(null_mut(), Ordering::Relaxed);
        let alone = self
            .tail
            .compare_exchange(own, self.held(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if !alone {
            self.first.store(linked(&node.next).as_ptr(), Ordering::Release);
        }
    }
}

/// What `link` is set to by a CPU that has joined the queue.
fn linked(link: &AtomicPtr<Node>) -> NonNull<Node> {
    loop {
        if let Some(node) = NonNull::new(link.load(Ordering::Acquire)) {
            return node;
        }
        yield_now();
    }
}

// SAFETY: `tail` leaves null for one CPU, and the others wait until the holder releases the one that waits the
// longest; what `unlock` releases, the next holder acquires by `tail` or by its node. A lock is not moved while it is
// held, since guards borrow it.
unsafe impl RawMutex for Queue {
    const INIT: Self = Self { tail: AtomicPtr::new(null_mut()), first: AtomicPtr::new(null_mut()) };

    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        while !self.try_lock() {
            let last = self.tail.load(Ordering::Acquire);
            if !last.is_null() && self.wait_behind(last) {
                return;
            }
        }
    }

    fn try_lock(&self) -> bool {
        let (free, held) = (null_mut(), self.held());
        self.tail.compare_exchange(free, held, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        let (held, free) = (self.held(), null_mut());
        let unlocked = self.first.load(Ordering::Relaxed).is_null()
            && self.tail.compare_exchange(held, free, Ordering::Release, Ordering::Relaxed).is_ok();
        if !unlocked {
            // SAFETY: its CPU waits, with the node on its stack, until this store.
            unsafe { (*linked(&self.first).as_ptr()).waits.store(false, Ordering::Release) };
        }
    }
}

#[test]
fn threads_use_memory_that_comes_and_goes_with_a_queue_lock_of_the_kernels_own() {
    storm::storm::<Queue>();
}
