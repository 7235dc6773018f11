//! How the text of one setting is read.

use std::time::Duration;

use super::ConfigError;

/// One year. A longer time is a mistake about the unit, and some clocks cannot count further.
const MAX_SECONDS: u64 = 31_536_000;

/// The shortest time that is not zero; a timer is no finer.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// What a duration of zero means.
#[derive(Clone, Copy)]
pub(super) enum Zero {
    /// Never.
    Off,
    /// At once.
    Now,
    /// Nothing that would make sense.
    Refused,
}

/// Looks a variable up.
pub(super) struct Settings<'a, F> {
    lookup: F,
    _values: std::marker::PhantomData<&'a str>,
}

impl<'a, F: Fn(&'static str) -> Option<&'a str>> Settings<'a, F> {
    pub(super) fn new(lookup: F) -> Self {
        Self { lookup, _values: std::marker::PhantomData }
    }

    /// The value of a variable; a blank one counts as not set.
    pub(super) fn get(&self, name: &'static str) -> Option<Setting<'a>> {
        let text = (self.lookup)(name)?;
        (!text.trim().is_empty()).then_some(Setting { name, text })
    }

    /// The value of a variable, or of the other name it goes by.
    pub(super) fn either(&self, name: &'static str, alias: &'static str) -> Option<Setting<'a>> {
        // Both are always looked up: a test compares what is read with what is documented.
        let fallback = self.get(alias);
        self.get(name).or(fallback)
    }
}

/// A variable that is set.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    name: &'static str,
    text: &'a str,
}

impl<'a> Setting<'a> {
    /// The value as it is, blanks included.
    pub(super) fn raw(self) -> &'a str {
        self.text
    }

    pub(super) fn trimmed(self) -> &'a str {
        self.text.trim()
    }

    /// Why this value is refused.
    pub(super) fn refused(self, accepted: impl Into<String>) -> ConfigError {
        ConfigError::new(self.name, self.text, accepted.into())
    }

    /// Why this value is refused, without showing it: there may be a password in it.
    pub(super) fn refused_unseen(self, accepted: impl Into<String>) -> ConfigError {
        let without_query = |url: &str| match url.split_once('?') {
            Some((url, _)) => format!("{url}?…"),
            None => url.to_owned(),
        };
        let shown = match self.text.rsplit_once('@') {
            // Part of a query, or of a password that should have been encoded.
            Some((before, _)) if before.contains('?') => "…".to_owned(),
            Some((_, rest)) => format!("…@{}", without_query(rest)),
            None => without_query(self.text),
        };
        ConfigError::new(self.name, &shown, accepted.into())
    }

    /// A whole number with these bounds; `what` names it ("a whole number of bytes").
    pub(super) fn number<T>(self, what: &str, min: u64, max: u64) -> Result<T, ConfigError>
    where
        T: TryFrom<u64>,
    {
        let text = self.trimmed();
        // The parser of the standard library also takes a plus sign.
        let value =
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        value
            .filter(|value| (min..=max).contains(value))
            .and_then(|value: u64| T::try_from(value).ok())
            .ok_or_else(|| self.refused(format!("{what} from {min} to {max}")))
    }

    /// A size in bytes, from `min` to `max`.
    pub(super) fn bytes(self, min: u64, max: u64) -> Result<usize, ConfigError> {
        self.number("a whole number of bytes", min, max)
    }

    /// A time in seconds, decimals allowed.
    pub(super) fn duration(self, zero: Zero) -> Result<Duration, ConfigError> {
        let text = self.trimmed();
        // Not everything that is a float: "1e3", "inf" and "-0" are no times.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds: Option<f64> = plain.then(|| text.parse().ok()).flatten();
        let Some(seconds) = seconds else {
            return Err(self.refused(match zero {
                Zero::Off => "a number of seconds, 0 or more (0 switches it off)",
                Zero::Now => "a number of seconds, 0 or more",
                Zero::Refused => "a number of seconds, more than 0",
            }));
        };
        if seconds == 0.0 && !matches!(zero, Zero::Refused) {
            return Ok(Duration::ZERO);
        }
        let most = Duration::from_secs(MAX_SECONDS);
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|value| (MIN_DURATION..=most).contains(value))
            .ok_or_else(|| {
                let range = format!("a number of seconds from 0.001 to {MAX_SECONDS} (a year)");
                self.refused(match zero {
                    Zero::Off => format!("{range}, or 0 to switch it off"),
                    Zero::Now => format!("{range}, or 0 not to wait"),
                    Zero::Refused => range,
                })
            })
    }

    /// A yes or no.
    pub(super) fn boolean(self) -> Result<bool, ConfigError> {
        match self.trimmed().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(self.refused("true, 1, yes, on, false, 0, no or off")),
        }
    }

    /// One of some words, in any case.
    pub(super) fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.trimmed();
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let accepted: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            match accepted.split_last() {
                Some((last, others)) if !others.is_empty() => {
                    self.refused(format!("{} or {last}", others.join(", ")))
                }
                _ => self.refused(accepted.join("")),
            }
        })
    }

    /// The entries between commas, without the blanks around them; empty ones are left out.
    pub(super) fn list(self) -> impl Iterator<Item = &'a str> {
        self.text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
    }
}
