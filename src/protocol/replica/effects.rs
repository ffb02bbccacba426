//! What is to be done about the events of a step, in order.

use super::Effect;
use crate::protocol::ids::MemberId;
use crate::protocol::message::Message;
use crate::protocol::op::Answer;
use crate::protocol::store::StoreError;

/// The effects since the last flush.
pub(super) struct Effects<T> {
    queue: Vec<Effect<T>>,
}

impl<T> Effects<T> {
    /// No effects.
    pub(super) fn new() -> Self {
        Self { queue: Vec::new() }
    }

    /// Adds an effect after all others.
    pub(super) fn push(&mut self, effect: Effect<T>) {
        self.queue.push(effect);
    }

    /// Sends a message to a member.
    pub(super) fn send(&mut self, to: MemberId, message: Message) {
        self.send_to(vec![to], message);
    }

    /// Sends a message to each of these members.
    pub(super) fn send_to(&mut self, to: Vec<MemberId>, message: Message) {
        self.push(Effect::Send { to, message });
    }

    /// Answers whoever holds a ticket.
    pub(super) fn answer(&mut self, ticket: T, answer: Answer) {
        self.push(Effect::Answer { ticket, answer });
    }

    /// Reports what went wrong with the store, if anything did.
    pub(super) fn report(&mut self, done: Result<(), StoreError>) {
        if let Err(error) = done {
            self.push(Effect::Fault(error));
        }
    }

    /// All of them, to be carried out.
    pub(super) fn take(&mut self) -> Vec<Effect<T>> {
        std::mem::take(&mut self.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_come_out_once_in_the_order_in_which_they_went_in() {
        let mut effects = Effects::<u8>::new();
        effects.report(Ok(()));
        effects.send(MemberId(2), Message::Outdated { known: 1 });
        effects.report(Err(StoreError::Io {
            what: "a disk".into(),
            detail: "gone".into(),
        }));
        let taken = effects.take();
        assert!(matches!(&taken[0], Effect::Send { to, .. } if *to == [MemberId(2)]));
        assert!(matches!(taken[1], Effect::Fault(_)));
        assert_eq!((taken.len(), effects.take().len()), (2, 0));
    }
}
