//! When a connection must be pinged, and when it must be given up.

use std::time::{Duration, Instant};

use crate::config::Config;

/// How far the life of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages go both ways.
    Open,
    /// The peer has said its last, by a close frame or by breaking the rules. Our close frame waits
    /// for what the handlers answer to the messages that came before.
    Settling { since: Instant },
    /// We sent a close frame and wait for the peer's.
    Closing { since: Instant },
    /// The peer broke the rules: what it still sends is thrown away until it hangs up, so that our
    /// close frame is not lost to a TCP reset.
    Failing { since: Instant },
    /// Both close frames are said; ours may still have to be written.
    Closed { since: Instant },
    /// The socket is gone.
    Ended,
}

impl Phase {
    /// Whether what handlers send still goes out.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Phase::Open | Phase::Settling { .. })
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    Nothing,
    /// Silence for `TINA4_WS_PING_INTERVAL`.
    Ping,
    /// No byte for `TINA4_WS_PING_TIMEOUT` after a ping.
    Dead,
    /// No message for `TINA4_WS_IDLE_TIMEOUT`.
    Idle,
    /// The closing handshake, or settling for it, took longer than `TINA4_WS_CLOSING_TIMEOUT`.
    CloseTimeout,
}

/// How many control frames a peer has sent within a second. It is counted in whole seconds from the
/// first, so that a burst across their border may be twice as large.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ControlRate {
    since: Option<Instant>,
    frames: usize,
}

impl ControlRate {
    /// Counts one more; whether that is more than `limit`, unless that is zero.
    pub(crate) fn exceeds(&mut self, limit: usize, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), frames: 0 };
        }
        self.frames += 1;
        limit > 0 && self.frames > limit
    }
}

/// The signs of life of one peer.
pub(crate) struct Signs {
    last_sign: Instant,
    last_message: Instant,
    ping_sent: Option<Instant>,
}

impl Signs {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last_sign: now, last_message: now, ping_sent: None }
    }

    /// Bytes came, whatever they say, or went.
    pub(crate) fn alive(&mut self, now: Instant) {
        self.last_sign = now;
        self.ping_sent = None;
    }

    /// What was just read held a message.
    pub(crate) fn message(&mut self) {
        self.last_message = self.last_sign;
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        self.ping_sent = Some(now);
    }

    /// What is due now. `listening` says that the socket is being read: while it is not, silence
    /// proves nothing. A ping goes out all the same, for TCP to notice that nobody takes it.
    pub(crate) fn overdue(
        &self,
        phase: Phase,
        listening: bool,
        config: &Config,
        now: Instant,
    ) -> Overdue {
        match phase {
            Phase::Ended => Overdue::Nothing,
            Phase::Settling { since }
            | Phase::Closing { since }
            | Phase::Failing { since }
            | Phase::Closed { since } => {
                if now.duration_since(since) >= config.closing_timeout {
                    Overdue::CloseTimeout
                } else {
                    Overdue::Nothing
                }
            }
            Phase::Open => {
                if let Some(sent) = self.ping_sent
                    && listening
                    && now.duration_since(sent) >= config.ping_timeout
                {
                    return Overdue::Dead;
                }
                if !config.idle_timeout.is_zero()
                    && listening
                    && now.duration_since(self.last_message) >= config.idle_timeout
                {
                    return Overdue::Idle;
                }
                if !config.ping_interval.is_zero()
                    && self.ping_sent.is_none()
                    && now.duration_since(self.last_sign) >= config.ping_interval
                {
                    return Overdue::Ping;
                }
                Overdue::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(100),
            closing_timeout: Duration::from_secs(5),
            ..Config::default()
        }
    }

    fn at(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_peer_is_pinged_once_and_then_given_up() {
        let (begun, config) = (Instant::now(), config());
        let mut signs = Signs::new(begun);
        let due =
            |signs: &Signs, seconds| signs.overdue(Phase::Open, true, &config, at(begun, seconds));
        assert_eq!(due(&signs, 29), Overdue::Nothing);
        assert_eq!(due(&signs, 30), Overdue::Ping);
        signs.pinged(at(begun, 30));
        assert_eq!(due(&signs, 39), Overdue::Nothing);
        assert_eq!(due(&signs, 40), Overdue::Dead);
        signs.alive(at(begun, 39));
        assert_eq!(due(&signs, 68), Overdue::Nothing, "any byte is a sign of life");
        assert_eq!(due(&signs, 100), Overdue::Idle, "but only messages count as use");
    }

    #[test]
    fn nobody_is_given_up_while_we_do_not_listen() {
        let (begun, config) = (Instant::now(), config());
        let mut signs = Signs::new(begun);
        signs.pinged(begun);
        let due = signs.overdue(Phase::Open, false, &config, at(begun, 1_000));
        assert_eq!(due, Overdue::Nothing);
        let due = Signs::new(begun).overdue(Phase::Open, false, &config, at(begun, 1_000));
        assert_eq!(due, Overdue::Ping, "which TCP must get through");
    }

    #[test]
    fn control_frames_are_counted_by_the_second() {
        let (begun, mut rate) = (Instant::now(), ControlRate::default());
        for _ in 0..3 {
            assert!(!rate.exceeds(3, begun));
        }
        assert!(rate.exceeds(3, at(begun, 0)));
        assert!(!rate.exceeds(3, at(begun, 1)), "another second");
        for _ in 0..10 {
            assert!(!rate.exceeds(0, begun), "no limit");
        }
    }

    #[test]
    fn every_way_of_closing_has_an_end() {
        let (since, config) = (Instant::now(), config());
        let signs = Signs::new(since);
        for phase in [
            Phase::Settling { since },
            Phase::Closing { since },
            Phase::Failing { since },
            Phase::Closed { since },
        ] {
            let due = |seconds| signs.overdue(phase, true, &config, at(since, seconds));
            assert_eq!(due(4), Overdue::Nothing);
            assert_eq!(due(5), Overdue::CloseTimeout);
        }
    }
}
