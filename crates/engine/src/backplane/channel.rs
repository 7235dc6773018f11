//! What all links have in common: the channels of a bus, and how a link fails.

/// The most messages that one [`Receiver::receive`](super::link::Receiver::receive) appends.
pub(crate) const BATCH: usize = 1024;

/// The two channels of the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channel {
    /// Envelopes only: nodes of the whole tina4 family read and write here.
    Messages,
    /// What our nodes tell each other about envelopes.
    Control,
}

impl Channel {
    pub(crate) const ALL: [Channel; 2] = [Channel::Messages, Channel::Control];

    /// Its name on the bus.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Channel::Messages => "tina4:ws",
            Channel::Control => "tina4:ws:ctl",
        }
    }

    pub(crate) fn of_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name().as_bytes() == name)
    }
}

/// Why a link cannot be made, or is dead: the end of a sentence, without anything secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LinkError(String);

impl LinkError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
