//! What handlers are told of a request or an upgrade, as lines of one text: to JavaScript one string
//! costs far less than many, most of which nobody asks for.
//!
//! First come as many lines as whoever writes them says, then one for each path parameter, an empty
//! one, and one for each header. None of the parts has a line end: a parameter that has one is
//! escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderMap, Method};

use crate::router::{ParamValue, Params};

/// The lines of one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines(String);

/// What most header lines need, in bytes.
const HEADER_ROOM: usize = 48;

impl Lines {
    /// Of a request: method, target as it was sent, canonical path and address.
    pub(crate) fn of_request(
        method: &Method,
        target: &str,
        path: &str,
        ip: IpAddr,
        params: &Params,
        headers: &HeaderMap,
    ) -> Self {
        let first = method.as_str().len() + target.len() + path.len() + HEADER_ROOM;
        let mut lines = Self::with_capacity(first + headers.len() * HEADER_ROOM);
        lines.push(method.as_str());
        lines.push(target);
        lines.push(path);
        lines.push_ip(ip);
        lines.push_params(params);
        push_headers(&mut lines.0, headers);
        lines
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Adds a line with an address.
    pub(crate) fn push_ip(&mut self, ip: IpAddr) {
        match ip {
            // As `Display` writes it, which takes 0.1 µs for that, in every request.
            IpAddr::V4(ip) => {
                let mut digits = itoa::Buffer::new();
                for (index, octet) in ip.octets().into_iter().enumerate() {
                    if index > 0 {
                        self.0.push('.');
                    }
                    self.0.push_str(digits.format(octet));
                }
                self.0.push('\n');
            }
            // A string takes whatever is written.
            IpAddr::V6(ip) => _ = writeln!(self.0, "{ip}"),
        }
    }

    /// Adds the lines of the parameters, which are `name=text`, `name%text` with escapes or
    /// `name:number`, and the empty one behind them.
    pub(crate) fn push_params(&mut self, params: &Params) {
        for (name, value) in params {
            self.0.push_str(name);
            match value {
                ParamValue::Text(text) if text.contains('\n') => {
                    self.0.push('%');
                    self.0.push_str(&text.replace('%', "%25").replace('\n', "%0A"));
                }
                ParamValue::Text(text) => {
                    self.0.push('=');
                    self.0.push_str(text);
                }
                ParamValue::Number(number) => {
                    // As above.
                    let _ = write!(self.0, ":{number}");
                }
            }
            self.0.push('\n');
        }
        self.0.push('\n');
    }

    /// All of them.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line at `index`, without its end; empty if there are not so many.
    pub fn line(&self, index: usize) -> &str {
        self.0.lines().nth(index).unwrap_or_default()
    }

    /// The parameters behind the first `skip` lines, as they are written.
    pub fn params(&self, skip: usize) -> impl Iterator<Item = &str> {
        self.0.lines().skip(skip).take_while(|line| !line.is_empty())
    }

    /// Name and value of each header.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        headers(self.0.split_once("\n\n").map_or("", |(_, headers)| headers))
    }
}

/// A line `name:value` for each header. A value that is not UTF-8 is read as Latin-1.
pub(crate) fn of_headers(headers: &HeaderMap) -> String {
    let length = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum();
    let mut lines = String::with_capacity(length);
    push_headers(&mut lines, headers);
    lines
}

/// Name and value of each header in lines of them.
pub(crate) fn headers(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines.lines().filter_map(|line| line.split_once(':'))
}

fn push_headers(lines: &mut String, headers: &HeaderMap) {
    // A header value never holds a line end (RFC 9110 section 5.5), nor a name a colon.
    for (name, value) in headers {
        lines.push_str(name.as_str());
        lines.push(':');
        lines.push_str(&header_text(value.as_bytes()));
        lines.push('\n');
    }
}

fn header_text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn lines(params: &[(&str, ParamValue)], headers: &HeaderMap) -> Lines {
        let params = params.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        let ip = "::1".parse().expect("an address");
        Lines::of_request(&Method::GET, "/a?b", "/a", ip, &params, headers)
    }

    #[test]
    fn every_part_has_its_line() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1: 2"));
        headers.append("x-a", HeaderValue::from_static(""));
        headers.append("x-b", HeaderValue::from_bytes(b"caf\xe9").expect("legal"));
        let params = [("id", ParamValue::Number(-7.5)), ("name", ParamValue::Text("100%".into()))];
        let lines = lines(&params, &headers);
        assert_eq!(
            lines.as_str(),
            "GET\n/a?b\n/a\n::1\nid:-7.5\nname=100%\n\nx-a:1: 2\nx-a:\nx-b:café\n"
        );
        assert_eq!(of_headers(&headers), "x-a:1: 2\nx-a:\nx-b:café\n");
        assert_eq!(lines.line(3), "::1");
        assert_eq!(lines.line(99), "");
        assert_eq!(lines.params(4).collect::<Vec<_>>(), ["id:-7.5", "name=100%"]);
        assert_eq!(
            lines.headers().collect::<Vec<_>>(),
            [("x-a", "1: 2"), ("x-a", ""), ("x-b", "café")]
        );
    }

    #[test]
    fn an_address_is_written_as_its_display() {
        for text in ["0.0.0.0", "9.10.99.100", "255.255.255.255", "2001:db8::1"] {
            let mut lines = Lines::with_capacity(0);
            lines.push_ip(text.parse().expect("an address"));
            assert_eq!(lines.as_str(), format!("{text}\n"));
        }
    }

    #[test]
    fn a_line_end_in_a_parameter_is_escaped() {
        let lines = lines(&[("a", ParamValue::Text("1%\n2".into()))], &HeaderMap::new());
        assert_eq!(lines.params(4).collect::<Vec<_>>(), ["a%1%25%0A2"]);
        assert_eq!(lines.headers().count(), 0);
    }
}
