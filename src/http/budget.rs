//! Memory that clients can make a node hold: what was read of their requests' bodies, and what they
//! have not read of their replies. Each has a budget, beyond which a request is refused at once.

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_web::HttpResponse;
use bytes::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// A reply with a body of at most so many bytes is not counted: it fits in the buffers that every
/// connection has.
const SMALL: usize = 16 * 1024;
/// Bytes of a reply that the framework gets at a time: it copies what it gets, and keeps the room.
const PORTION: usize = 32 * 1024;

/// Bytes that may be held at a time, all connections together.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Bytes that may be held.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How often there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts bytes; false when there is no room for them.
    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give_back(bytes);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one body holds of a budget, until it is dropped.
#[derive(Debug)]
pub struct HeldBytes<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl<'a> HeldBytes<'a> {
    /// Holds nothing yet.
    pub fn nothing(budget: &'a Budget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Holds more; false when there is no room for that.
    #[must_use]
    pub fn add(&mut self, bytes: usize) -> bool {
        let fits = self.budget.take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// Whether a reply of so many bytes is counted; one that has a value of `bytes` is longer by its
/// payload.
pub fn is_large(bytes: usize) -> bool {
    bytes > SMALL
}

/// The reply, counted until the client has read it, or almost: what is left of it then is in the
/// kernel. `None` when there is no room for it.
pub fn counted(response: HttpResponse, budget: &Arc<Budget>) -> Option<HttpResponse> {
    let BodySize::Sized(bytes) = response.body().size() else {
        return Some(response);
    };
    let bytes = usize::try_from(bytes).ok()?;
    if !is_large(bytes) {
        return Some(response);
    }
    let (head, body) = response.into_parts();
    let rest = match body.try_into_bytes() {
        Ok(rest) => rest,
        // It comes by and by already.
        Err(body) => return Some(head.set_body(body)),
    };
    if !budget.take(bytes) {
        return None;
    }
    let budget = Arc::clone(budget);
    let unread = Unread {
        rest,
        bytes,
        budget,
    };
    Some(head.set_body(BoxBody::new(unread)))
}

/// The body of a reply, given away by portions.
struct Unread {
    rest: Bytes,
    bytes: usize,
    budget: Arc<Budget>,
}

impl MessageBody for Unread {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().rest;
        let portion = rest.split_to(rest.len().min(PORTION));
        Poll::Ready((!portion.is_empty()).then_some(Ok(portion)))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
