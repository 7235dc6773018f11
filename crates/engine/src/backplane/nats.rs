//! stub
use super::link::{Channel, LinkError};
use crate::config::bus::NatsServer;
use bytes::Bytes;
pub(crate) async fn connect(_: &NatsServer) -> Result<(Sender, Receiver), LinkError> {
    Err(LinkError::new("no NATS yet"))
}
pub(crate) struct Sender;
pub(crate) struct Receiver;
impl Sender {
    pub(crate) async fn send(&mut self, _: &[(Channel, Bytes)]) -> Result<(), LinkError> {
        Err(LinkError::new("no NATS yet"))
    }
    pub(crate) fn max_payload(&self) -> usize {
        0
    }
}
impl Receiver {
    pub(crate) async fn receive(&mut self, _: &mut Vec<(Channel, Bytes)>) -> Result<(), LinkError> {
        Err(LinkError::new("no NATS yet"))
    }
}
