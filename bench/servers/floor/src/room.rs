//! Who is in the room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_tungstenite::tungstenite::Message;

/// Clones share the members.
#[derive(Clone, Default)]
pub(crate) struct Room {
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    outboxes: HashMap<u64, UnboundedSender<Message>>,
}

impl Room {
    /// Returns the member's number and what it has to be sent.
    pub(crate) fn enter(&self) -> (u64, UnboundedReceiver<Message>) {
        let (outbox, messages) = mpsc::unbounded_channel();
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let number = members.next;
        members.next += 1;
        members.outboxes.insert(number, outbox);
        (number, messages)
    }

    pub(crate) fn leave(&self, number: u64) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.outboxes.remove(&number);
    }

    /// To everyone, the sender too. A clone of a message shares its bytes.
    pub(crate) fn send(&self, message: &Message) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        for outbox in members.outboxes.values() {
            // One whose task has just ended leaves in a moment.
            let _ = outbox.send(message.clone());
        }
    }
}
