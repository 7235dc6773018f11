//! Close codes and close reasons (RFC 6455 sections 5.5.1 and 7.4).

/// Normal closure.
pub const NORMAL: u16 = 1000;
/// The server is going away.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer sent a kind of data the route does not take.
pub const UNSUPPORTED: u16 = 1003;
/// The peer's close frame carried no code. Never on the wire.
pub const NO_STATUS: u16 = 1005;
/// The TCP connection ended without a closing handshake. Never on the wire.
pub const ABNORMAL: u16 = 1006;
/// Text that is not UTF-8.
pub const INVALID_DATA: u16 = 1007;
/// A message broke a rule of this server (too many fragments).
pub const POLICY: u16 = 1008;
/// The message is over the size limit.
pub const TOO_BIG: u16 = 1009;
/// The server failed while handling the connection.
pub const SERVER_ERROR: u16 = 1011;
/// The service restarts; the peer should reconnect.
pub const RESTART: u16 = 1012;
/// The peer reads too slowly, or the server is out of room; try again later.
pub const TRY_AGAIN: u16 = 1013;

/// Longest close reason in bytes: a control frame carries 125, two of them are the code
/// (RFC 6455 section 5.5).
pub const MAX_REASON: usize = 123;

/// Whether `code` may appear in a close frame, whoever sends it (RFC 6455 section 7.4 and the
/// registry it opened, which has since assigned 1012 to 1014).
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// `reason` cut to [`MAX_REASON`] bytes at a character's boundary.
pub fn cut_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_only_describe_an_ending_are_never_sent() {
        for code in [0, 999, 1004, NO_STATUS, ABNORMAL, 1015, 1016, 2999, 5000] {
            assert!(!may_be_sent(code), "{code}");
        }
        for code in [NORMAL, UNSUPPORTED, INVALID_DATA, TRY_AGAIN, 1014, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "é".repeat(100);
        assert_eq!(cut_reason(&reason).len(), 122);
        assert_eq!(cut_reason("short"), "short");
    }
}
