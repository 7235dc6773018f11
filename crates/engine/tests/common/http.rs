//! HTTP/1.1 responses, read as strictly as the tests need.

/// A response with its whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Takes a response to a request with `method` from the beginning of `bytes`, and says how many
    /// bytes it was. `ended` says that nothing will follow.
    pub(crate) fn parse(bytes: &[u8], method: &str, ended: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).expect("a head in UTF-8");
        let mut lines = head.split("\r\n");
        let first = lines.next().expect("a status line");
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| first.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("a bad status line: {first:?}"));
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a colon");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut response = Self { status, headers, body: Vec::new() };
        let body = &bytes[end + 4..];
        let used = response.take_body(body, method, ended)?;
        Some((response, end + 4 + used))
    }

    fn take_body(&mut self, bytes: &[u8], method: &str, ended: bool) -> Option<usize> {
        if method == "HEAD" || matches!(self.status, 100..200 | 204 | 304) {
            return Some(0);
        }
        if let Some(length) = self.header("content-length") {
            let length: usize = length.parse().expect("a length");
            self.body = bytes.get(..length)?.to_vec();
            return Some(length);
        }
        if self.header("transfer-encoding") == Some("chunked") {
            return self.take_chunks(bytes);
        }
        self.body = bytes.to_vec();
        ended.then_some(bytes.len())
    }

    fn take_chunks(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        self.body.clear();
        loop {
            let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
            let size = std::str::from_utf8(&bytes[at..at + line]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size in hexadecimal");
            at += line + 2;
            self.body.extend_from_slice(bytes.get(at..at + size)?);
            at += size + 2;
            bytes.get(..at)?;
            if size == 0 {
                return Some(at);
            }
        }
    }

    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there twice: {all:?}");
        all.first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}
