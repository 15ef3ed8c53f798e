//! The queue of a device: one request at a time, in one page, without interrupts.
//!
//! ```text
//!   byte   0  two descriptors: the request, and the room for a response       (virtio 1.2, 2.7.5)
//!         32  the driver's ring: flags, index, two entries                      one word of 64 bits
//!         64  the device's ring: flags, index, two entries of 64 bits
//!        128  the request            192  the response
//! ```
//!
//! With two entries the driver's ring is one word of 64 bits, so that one store publishes a request. The memory is shared
//! with a device that may write anything at any time: it is accessed as atomic words, and what is read from it is checked.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use hotmem::{Machine, Mm, Order, Pages, PhysAddr};

use super::fault::Fault;
use super::request::Request;
use super::transport::{Board, Rings, Transport};
use super::wire::{REQUEST_BYTES, RESPONSE_BYTES, Response, decode, encode};

/// The queue of requests, the only one.
pub(crate) const INDEX: u16 = 0;
/// Its entries.
pub(crate) const SIZE: u16 = 2;

/// Places in the page, in words of 64 bits.
const AVAILABLE: usize = 4;
const USED: usize = 8;
const REQUEST: usize = 16;
const RESPONSE: usize = 24;

/// Flags of a descriptor: another one follows; the device writes.
const NEXT: u64 = 1 << 32;
const WRITE: u64 = 2 << 32;
/// The flag of the driver's ring: no interrupts.
const NO_INTERRUPT: u64 = 1;
/// The flag of the device's ring: no notifications.
const NO_NOTIFY: u64 = 1;

/// How long a response may take, and how many looks at the ring, if the clock stands still.
const SECONDS: u64 = 10;
const LOOKS: u64 = 1 << 32;

/// The queue.
pub(crate) struct Queue<'m, M: Machine> {
    mm: &'m Mm<M>,
    page: Pages<'m, M>,
    /// Requests made so far, which is the index of both rings.
    made: u16,
}

impl<'m, M: Machine> Queue<'m, M> {
    /// An empty queue, in a page of its own.
    ///
    /// # Errors
    ///
    /// [`Fault::NoMemory`].
    pub(crate) fn new(mm: &'m Mm<M>) -> Result<Self, Fault> {
        let page = mm.alloc(Order::ZERO).map_err(|_| Fault::NoMemory)?;
        let this = Self { mm, page, made: 0 };
        let words = this.page.words(0).unwrap_or_default();
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        this.put(0, this.address(REQUEST).get());
        this.put(1, u64::from(REQUEST_BYTES) | NEXT | 1 << 48);
        this.put(2, this.address(RESPONSE).get());
        this.put(3, u64::from(RESPONSE_BYTES) | WRITE);
        this.put(AVAILABLE, NO_INTERRUPT);
        Ok(this)
    }

    /// Where its rings are.
    pub(crate) fn rings(&self) -> Rings {
        Rings {
            descriptors: self.address(0),
            available: self.address(AVAILABLE),
            used: self.address(USED),
        }
    }

    /// Keeps its page allocated for ever, since a device may still write to it.
    pub(crate) fn abandon(self) {
        let _ = self.page.into_raw();
    }

    /// Makes a request, and waits for the response.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the device sent no response in time, or one that does not fit the request.
    pub(crate) fn exchange(
        &mut self,
        transport: &impl Transport,
        time: &impl Board,
        request: Request,
    ) -> Result<Response, Fault> {
        for (index, word) in encode(request).into_iter().enumerate() {
            self.put(REQUEST + index, word);
        }
        // No response is of this type.
        self.put(RESPONSE, u64::MAX);
        self.put(RESPONSE + 1, u64::MAX);
        let was = self.made;
        self.made = was.wrapping_add(1);
        // The device sees all of the above when it sees the new index. Both entries of the ring are descriptor 0.
        let published = NO_INTERRUPT | u64::from(self.made) << 16;
        self.word(AVAILABLE).store(published.to_le(), Ordering::Release);
        // The store comes before the load of the flag (virtio 1.2, 2.7.13.4.1).
        fence(Ordering::SeqCst);
        if self.get(USED) & NO_NOTIFY == 0 {
            transport.notify(INDEX);
        }
        self.wait(time, was, request)?;
        let (id, len) = self.used(was);
        if id != 0 {
            return Err(Fault::UsedId(id));
        }
        if len > RESPONSE_BYTES {
            return Err(Fault::UsedLength(request, len));
        }
        decode(request, [self.get(RESPONSE), self.get(RESPONSE + 1)], len)
    }

    /// Waits until the device's ring has one entry more.
    fn wait(&self, time: &impl Board, was: u16, request: Request) -> Result<(), Fault> {
        let start = time.ticks();
        let most = time.per_second().saturating_mul(SECONDS);
        for _ in 0..LOOKS {
            let is = (self.get(USED) >> 16) as u16;
            if is == was.wrapping_add(1) {
                // What the device wrote before the index is read after it.
                fence(Ordering::Acquire);
                return Ok(());
            }
            if is != was {
                return Err(Fault::UsedIndex { was, is });
            }
            if time.ticks().wrapping_sub(start) > most {
                break;
            }
            self.mm.machine().relax();
        }
        Err(Fault::NoResponse(request))
    }

    /// The entry with `index` of the device's ring: a descriptor, and bytes that were written.
    fn used(&self, index: u16) -> (u32, u32) {
        // An entry begins in the middle of a word.
        let at = USED + usize::from(index % SIZE);
        ((self.get(at) >> 32) as u32, self.get(at + 1) as u32)
    }

    fn address(&self, word: usize) -> PhysAddr {
        M::address(self.page.pfn()).add(word as u64 * 8)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        /// For an index past the end of the page, which no caller has.
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        self.page.words(0).and_then(|words| words.get(index)).unwrap_or(&NOWHERE)
    }

    fn get(&self, index: usize) -> u64 {
        u64::from_le(self.word(index).load(Ordering::Relaxed))
    }

    fn put(&self, index: usize, value: u64) {
        self.word(index).store(value.to_le(), Ordering::Relaxed);
    }
}

impl<M: Machine> fmt::Debug for Queue<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("at", &self.address(0)).field("made", &self.made).finish()
    }
}
