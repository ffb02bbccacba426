//! Answers on their way from the replica's thread to the tasks that wait for them.
//!
//! Waking a task on another thread costs a system call. A batch of writes is answered at once, so
//! each thread has a mailbox: the replica puts the answers in and wakes one task there, which hands
//! them out on the thread itself.

use crate::protocol::op::Answer;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Stands for the task that waits for an answer.
pub struct Ticket {
    to: oneshot::Sender<Answer>,
    mailbox: Arc<Mailbox>,
}

/// The answers for one thread.
#[derive(Default)]
pub struct Mailbox {
    answers: Mutex<Vec<(oneshot::Sender<Answer>, Answer)>>,
    filled: Notify,
    /// The task that empties it is gone, with its runtime.
    closed: AtomicBool,
}

thread_local! {
    static MINE: RefCell<Option<Arc<Mailbox>>> = const { RefCell::new(None) };
}

/// A ticket for a task on this thread, and where its answer comes. Must be called on a runtime.
pub fn ticket() -> (Ticket, oneshot::Receiver<Answer>) {
    let mailbox = MINE.with_borrow_mut(|mine| match mine {
        Some(open) if !open.closed.load(Ordering::Acquire) => Arc::clone(open),
        _ => Arc::clone(mine.insert(Mailbox::open())),
    });
    let (to, answer) = oneshot::channel();
    (Ticket { to, mailbox }, answer)
}

impl Mailbox {
    fn open() -> Arc<Self> {
        let mailbox = Arc::new(Self::default());
        let emptied = Arc::clone(&mailbox);
        tokio::spawn(async move {
            let _open = CloseOnDrop(Arc::clone(&emptied));
            loop {
                emptied.filled.notified().await;
                emptied.hand_out();
            }
        });
        mailbox
    }

    fn answers(&self) -> MutexGuard<'_, Vec<(oneshot::Sender<Answer>, Answer)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_out(&self) {
        let answers = std::mem::take(&mut *self.answers());
        for (to, answer) in answers {
            // The caller may have stopped waiting.
            let _ = to.send(answer);
        }
    }
}

struct CloseOnDrop(Arc<Mailbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.hand_out();
    }
}

/// The replica's side: collects answers and delivers them together.
#[derive(Default)]
pub struct Outbox(Vec<Arc<Mailbox>>);

impl Outbox {
    /// Puts an answer into its mailbox.
    pub fn put(&mut self, ticket: Ticket, answer: Answer) {
        let Ticket { to, mailbox } = ticket;
        mailbox.answers().push((to, answer));
        if !self.0.iter().any(|known| Arc::ptr_eq(known, &mailbox)) {
            self.0.push(mailbox);
        }
    }

    /// Wakes the threads that have got answers.
    pub fn deliver(&mut self) {
        for mailbox in self.0.drain(..) {
            if mailbox.closed.load(Ordering::Acquire) {
                mailbox.hand_out();
            } else {
                mailbox.filled.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::op::Refusal;

    const ANSWER: Answer = Answer::Refused(Refusal::Overloaded);

    #[test]
    fn answers_reach_tasks_on_their_threads_also_after_a_runtime_ended() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(async {
                let waiting: Vec<_> = (0..10).map(|_| ticket()).collect();
                let (tickets, answers): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                std::thread::spawn(move || {
                    let mut outbox = Outbox::default();
                    for ticket in tickets {
                        outbox.put(ticket, ANSWER);
                    }
                    outbox.deliver();
                });
                for answer in answers {
                    assert_eq!(answer.await, Ok(ANSWER));
                }
            });
        }
    }
}
