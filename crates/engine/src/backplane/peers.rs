//! The peers: all other nodes whose envelopes have numbers, each kept in its own order.
//!
//! Like the node it has no socket and no clock. It says what is to be delivered, what is lost and
//! what is to be asked for; the node does it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::envelope::{Delivery, MAX_FIELDS};
use super::peer::{ASK_AGAIN, Peer};
use super::sequence::{Missing, Taken};

/// Origins that are kept in order at a time. Of one that is away only its place is kept, and that
/// until another one needs the room: when it is back, it is known what was missed. While more are
/// there, the envelopes of the rest are delivered as they come.
pub(super) const MAX_PEERS: usize = 1_024;

pub(super) struct Peers {
    peers: HashMap<String, Peer>,
    /// Bytes of envelopes that wait behind gaps, of all peers.
    held_bytes: usize,
    max_held_bytes: usize,
    /// After so long without a word a node is away.
    patience: Duration,
    /// After so long without a word it keeps nothing any more of what it had sent until then.
    kept_for: Duration,
    /// When the link came up: before that nobody could be heard.
    linked: Instant,
    /// Who is not known has not been heard since then: since the start, or since the last word of one
    /// that there is no room for.
    unheard_since: Instant,
}

/// How an origin stands that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is kept in order.
    Kept,
    /// There is no room to keep it in order.
    NoRoom,
    /// It is heard with another start, and a source has only one.
    Other,
}

/// Why what is missing is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Left,
    Silent,
    /// It answers, but nothing comes of it.
    InVain,
}

/// What comes of something that happened.
#[derive(Default)]
pub(super) struct Outcome {
    /// Envelopes that are to be delivered now, in this order.
    pub(super) ready: Vec<Option<Delivery>>,
    /// How many are lost, and why.
    pub(super) lost: Vec<(u64, String)>,
}

/// What an origin says of its envelopes when it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// That of the question, 0 if it was about a time.
    pub(super) from: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) head: u64,
}

/// What a node is to be asked for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) to: String,
    pub(super) missing: Missing,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::Left => "their node has ended",
            Reason::Silent => "their node does not answer",
            Reason::InVain => "what their node sends again does not come",
        }
    }
}

impl Peers {
    /// Holds at most so many bytes of envelopes behind gaps.
    pub(super) fn new(
        now: Instant,
        max_held_bytes: usize,
        patience: Duration,
        kept_for: Duration,
    ) -> Self {
        let (peers, held_bytes) = (HashMap::new(), 0);
        Self {
            peers,
            held_bytes,
            max_held_bytes,
            patience,
            kept_for,
            linked: now,
            unheard_since: now,
        }
    }

    /// The link is up: from now on they can be heard and asked.
    pub(super) fn link_up(&mut self, now: Instant) {
        self.linked = now;
        for peer in self.peers.values_mut() {
            if let Some(asking) = &mut peer.asking {
                asking.restart(now);
            }
        }
    }

    /// An origin was heard: makes room for it if it is new.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        source: &str,
        epoch: u64,
        outcome: &mut Outcome,
    ) -> Standing {
        if let Some(peer) = self.peers.get_mut(source) {
            if epoch == peer.epoch {
                peer.hear(now);
                return Standing::Kept;
            }
            // Whoever is heard is believed.
            if now < away_from(peer.heard, self.linked, self.patience) {
                return Standing::Other;
            }
            self.forget(now, source, outcome);
        }
        if self.peers.len() >= MAX_PEERS && !self.make_room(now, outcome) {
            self.was_heard(now);
            return Standing::NoRoom;
        }
        self.peers.insert(source.to_owned(), Peer::new(now, epoch));
        Standing::Kept
    }

    /// Forgets one that has left, or the one that is away longest. False if all are there.
    fn make_room(&mut self, now: Instant, outcome: &mut Outcome) -> bool {
        let is_away =
            |peer: &Peer| peer.has_left || now >= away_from(peer.heard, self.linked, self.patience);
        let away = self.peers.iter().filter(|(_, peer)| is_away(peer));
        let longest = away.min_by_key(|(_, peer)| (!peer.has_left, peer.heard));
        let Some(source) = longest.map(|(source, _)| source.clone()) else { return false };
        self.forget(now, &source, outcome);
        true
    }

    fn forget(&mut self, now: Instant, source: &str, outcome: &mut Outcome) {
        self.give_up(now, source, Reason::Silent, outcome);
        if let Some(peer) = self.peers.remove(source) {
            self.was_heard(peer.heard);
        }
    }

    /// One that is not known any more was heard at that time: it must not be asked for what it has
    /// sent until then, nor for what [`Self::unheard_for`] adds to it.
    fn was_heard(&mut self, at: Instant) {
        self.unheard_since = self.unheard_since.max(at + ASK_AGAIN);
    }

    /// Takes an envelope of an origin that is kept; `None` if there is nothing to deliver of it.
    pub(super) fn take(
        &mut self,
        now: Instant,
        source: &str,
        number: u64,
        delivery: Option<Delivery>,
        outcome: &mut Outcome,
    ) -> Taken {
        let bytes = delivery.as_ref().map_or(0, |delivery| delivery.payload.len()) + MAX_FIELDS;
        let taken = self.change(now, source, |peer, room| {
            peer.sequence.take(number, delivery, bytes, room, &mut outcome.ready)
        });
        taken.unwrap_or(Taken::NoRoom)
    }

    /// An origin has sent everything up to `head`.
    pub(super) fn heard_head(&mut self, now: Instant, source: &str, head: u64) {
        self.change(now, source, |peer, _| peer.sequence.heard_head(head));
    }

    /// A node says that it is there.
    pub(super) fn stay(&mut self, source: &str) {
        if let Some(peer) = self.peers.get_mut(source) {
            peer.has_left = false;
        }
    }

    /// A node says that it is leaving. What it has published until then may still be on its way: the
    /// channels of a bus overtake each other.
    pub(super) fn leave(&mut self, now: Instant, source: &str) {
        if let Some(peer) = self.peers.get_mut(source) {
            peer.has_left = true;
            if let Some(asking) = &mut peer.asking {
                asking.due = now + ASK_AGAIN;
            }
        }
    }

    /// A node answers. Returns how many envelopes are let go that are forged.
    pub(super) fn hear_answer(
        &mut self,
        now: Instant,
        source: &str,
        said: Answered,
        outcome: &mut Outcome,
    ) -> usize {
        let Outcome { ready, lost } = outcome;
        let forged = self.change(now, source, |peer, _| {
            let forged = peer.sequence.trim(said.head);
            // An answer about a time says where to begin, and only to one that does not know.
            if said.from > 0 || peer.sequence.next().is_none() {
                let skipped = peer.sequence.skip_to(said.first, ready);
                lost.push((skipped, format!("node {source} cannot send them again")));
            }
            if let Some(asking) = &mut peer.asking {
                asking.answered_until = Some(said.last);
                asking.due = now + ASK_AGAIN;
            }
            forged
        });
        forged.unwrap_or(0)
    }

    /// What is to be asked for now. What there is no hope for is given up.
    pub(super) fn ask(&mut self, now: Instant, outcome: &mut Outcome) -> Vec<Question> {
        let mut questions = Vec::new();
        let mut hopeless = Vec::new();
        for (source, peer) in &mut self.peers {
            let away = away_from(peer.heard, self.linked, self.patience);
            let gone = away.max(peer.heard + self.kept_for);
            let Some(asking) = peer.asking.as_mut().filter(|asking| now >= asking.due) else {
                continue;
            };
            if peer.has_left {
                hopeless.push((source.clone(), Reason::Left));
                continue;
            }
            if now >= gone {
                hopeless.push((source.clone(), Reason::Silent));
                continue;
            }
            if now >= away {
                // Nobody is there to be asked. When it is back it says so.
                asking.due = gone;
                continue;
            }
            if !asking.ask(now, peer.heard) {
                let answers = asking.answered_until.is_some();
                hopeless
                    .push((source.clone(), if answers { Reason::InVain } else { Reason::Silent }));
                continue;
            }
            if let Some(missing) = peer.sequence.missing() {
                questions.push(Question { to: source.clone(), missing });
            }
        }
        for (source, reason) in hopeless {
            self.give_up(now, &source, reason, outcome);
        }
        questions
    }

    /// Asks nobody for a while.
    pub(super) fn put_off(&mut self, now: Instant) {
        let askings = self.peers.values_mut().filter_map(|peer| peer.asking.as_mut());
        askings.filter(|asking| now >= asking.due).for_each(|asking| asking.put_off(now));
    }

    /// Delivers what an origin has sent, without what is missing. Of one that answers only what is
    /// missing first is given up: it has not been asked for the rest yet.
    fn give_up(&mut self, now: Instant, source: &str, reason: Reason, outcome: &mut Outcome) {
        let Outcome { ready, lost } = outcome;
        self.change(now, source, |peer, _| {
            while let Some(missing) = peer.sequence.missing() {
                let given_up = peer.sequence.give_up(ready);
                lost.push(match missing {
                    Missing::Range { .. } => (given_up, reason.text().to_owned()),
                    Missing::Beginning => {
                        let some = u64::from(peer.sequence.next() > Some(1));
                        (some, format!("{}; how many there were is not known", reason.text()))
                    }
                });
                if reason == Reason::InVain {
                    break;
                }
            }
        });
    }

    /// Lets `change` act on a peer, with the room that there is to hold more, and looks after what is
    /// missing.
    fn change<R>(
        &mut self,
        now: Instant,
        source: &str,
        change: impl FnOnce(&mut Peer, usize) -> R,
    ) -> Option<R> {
        let peer = self.peers.get_mut(source)?;
        let room = self.max_held_bytes.saturating_sub(self.held_bytes);
        let held = peer.sequence.held_bytes();
        let result = change(peer, room);
        self.held_bytes = self.held_bytes + peer.sequence.held_bytes() - held;
        peer.look_after_gap(now);
        Some(result)
    }

    /// For how long a node may have been sending that is not known, and not been heard. The time that
    /// the question takes is added; if it takes longer, it is asked again.
    pub(super) fn unheard_for(&self, now: Instant) -> Duration {
        (now + ASK_AGAIN).saturating_duration_since(self.unheard_since)
    }

    /// The nodes that were heard lately.
    pub(super) fn live(&self, now: Instant) -> HashSet<String> {
        let is_live =
            |peer: &Peer| !peer.has_left && now < away_from(peer.heard, self.linked, self.patience);
        let live = self.peers.iter().filter(|(_, peer)| is_live(peer));
        live.map(|(source, _)| source.clone()).collect()
    }

    /// When something is to be asked next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| Some(peer.asking.as_ref()?.due)).min()
    }
}

/// From when on a node is away that was heard last at `heard`.
fn away_from(heard: Instant, linked: Instant, patience: Duration) -> Instant {
    heard.max(linked) + patience
}

#[cfg(test)]
impl Peers {
    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether anything is missing of anyone.
    pub(super) fn misses_something(&self) -> bool {
        self.peers.values().any(|peer| peer.asking.is_some())
    }
}
