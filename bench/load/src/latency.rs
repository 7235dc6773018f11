//! How long round trips took.

use std::time::Duration;

/// Samples kept, 64 MB of them; later ones are not recorded.
const MAX_SAMPLES: usize = 16 * 1024 * 1024;

/// Round trips in nanoseconds.
#[derive(Default)]
pub(crate) struct Latency {
    samples: Vec<u32>,
}

impl Latency {
    pub(crate) fn record(&mut self, duration: Duration) {
        if self.samples.len() < MAX_SAMPLES {
            let nanoseconds = duration.as_nanos().min(u128::from(u32::MAX));
            self.samples.push(nanoseconds as u32);
        }
    }

    /// Microseconds within which each of these shares (0 to 1) of the round trips was done; `None`
    /// without a sample.
    pub(crate) fn percentiles<const N: usize>(&mut self, shares: [f64; N]) -> Option<[f64; N]> {
        self.samples.sort_unstable();
        let last = self.samples.len().checked_sub(1)?;
        Some(shares.map(|share| {
            let rank = (share * self.samples.len() as f64).ceil() as usize;
            f64::from(self.samples[rank.saturating_sub(1).min(last)]) / 1e3
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_that_rank() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentiles([0.5]), None);
        for microseconds in (1..=100).rev() {
            latency.record(Duration::from_micros(microseconds));
        }
        assert_eq!(latency.percentiles([0.0, 0.5, 0.99, 1.0]), Some([1.0, 50.0, 99.0, 100.0]));
    }
}
