//! A node's connection to the bus, whichever bus it is.

use bytes::Bytes;

use super::channel::{Channel, LinkError};
use super::{nats, redis, relay};
use crate::config::bus::Bus;

/// The half of a link that publishes.
pub(crate) enum Sender {
    Redis(redis::Sender),
    Nats(nats::Sender),
    Relay(relay::Sender),
}

/// The half of a link that is subscribed to both channels.
pub(crate) enum Receiver {
    Redis(redis::Receiver),
    Nats(nats::Receiver),
    Relay(relay::Receiver),
}

/// Connects and subscribes to both channels. When it returns, whatever anyone publishes from then
/// on will be received.
///
/// It waits as long as the bus lets it wait; the caller bounds the time. Dropping both halves closes
/// the sockets and ends what runs for them.
///
/// # Errors
///
/// The bus cannot be reached, or it refuses us.
pub(crate) async fn connect(bus: &Bus) -> Result<(Sender, Receiver), LinkError> {
    Ok(match bus {
        Bus::Redis(server) => {
            let (sender, receiver) = redis::connect(server).await?;
            (Sender::Redis(sender), Receiver::Redis(receiver))
        }
        Bus::Nats(server) => {
            let (sender, receiver) = nats::connect(server).await?;
            (Sender::Nats(sender), Receiver::Nats(receiver))
        }
        Bus::Relay(path) => {
            let (sender, receiver) = relay::connect(path).await?;
            (Sender::Relay(sender), Receiver::Relay(receiver))
        }
    })
}

impl Sender {
    /// Sends all, in order and pipelined. Returns when the bus has taken them: Redis has answered
    /// each, for NATS and the relay they are written to the socket.
    ///
    /// # Errors
    ///
    /// The link is dead; how many of the messages arrived is not known.
    pub(crate) async fn send(&mut self, messages: &[(Channel, Bytes)]) -> Result<(), LinkError> {
        if messages.is_empty() {
            return Ok(());
        }
        match self {
            Sender::Redis(sender) => sender.send(messages).await,
            Sender::Nats(sender) => sender.send(messages).await,
            Sender::Relay(sender) => sender.send(messages).await,
        }
    }

    /// The largest payload that the bus takes, in bytes.
    pub(crate) fn max_payload(&self) -> usize {
        match self {
            Sender::Redis(_) => redis::MAX_PAYLOAD,
            Sender::Nats(sender) => sender.max_payload(),
            Sender::Relay(_) => relay::MAX_PAYLOAD,
        }
    }
}

impl Receiver {
    /// Waits for one message at least and appends all that are there without waiting, at most
    /// [`BATCH`](super::channel::BATCH), in the order of the bus (each channel's own order for NATS).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// # Errors
    ///
    /// The link is dead.
    pub(crate) async fn receive(
        &mut self,
        into: &mut Vec<(Channel, Bytes)>,
    ) -> Result<(), LinkError> {
        match self {
            Receiver::Redis(receiver) => receiver.receive(into).await,
            Receiver::Nats(receiver) => receiver.receive(into).await,
            Receiver::Relay(receiver) => receiver.receive(into).await,
        }
    }
}

#[cfg(test)]
#[path = "test_servers.rs"]
pub(crate) mod test_servers;
#[cfg(test)]
mod tests;
